"""A detector of bright squares with one output as Ultralytics exports it, built by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
SIZE, STRIDE, SIDE, CLASSES = 64, 8, 24, 2
CELLS = SIZE // STRIDE
BOXES = CELLS * CELLS


def model(rows: int | str = "n") -> onnx.ModelProto:
    """`images` [rows, 3, 64, 64] -> [rows, 4 + 2, 64]: red squares are class 0, green ones class 1.

    One convolution finds how much of a cell's 24 x 24 pixels is bright, and how far off its center
    the square lies: the mean of its pixels' positions.
    """
    window, rim = 40, (40 - SIDE) // 2
    weights = np.zeros((2 + CLASSES, 3, window, window), np.float32)
    place = np.arange(window, dtype=np.float32) - (window - 1) / 2
    for cls in range(CLASSES):
        weights[0, cls] = place[None, :] / SIDE**2
        weights[1, cls] = place[:, None] / SIDE**2
        weights[2 + cls, cls, rim:-rim, rim:-rim] = 1 / SIDE**2
    middles = np.arange(CELLS, dtype=np.float32) * STRIDE + STRIDE / 2
    grid = np.stack(np.meshgrid(middles, middles))[None]  # x, y
    sides = np.full((1, 2, CELLS, CELLS), SIDE, np.float32)
    stored = {
        "w": weights,
        "grid": grid,
        "sides": sides,
        "steep": np.float32(24),
        "limit": np.float32(0.8),
        "none": np.float32(0),
        "flat": np.array([0, 4 + CLASSES, BOXES], np.int64),
        "low": np.float32(-STRIDE),
        "high": np.float32(STRIDE),
    }
    pad = (window - STRIDE) // 2
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "w"], ["c"], strides=[STRIDE] * 2, pads=[pad] * 4),
        node("Split", ["c"], ["off", "fill"], axis=1, num_outputs=2),
        node("Clip", ["off", "low", "high"], ["near"]),
        node("Add", ["near", "grid"], ["center"]),
        node("Mul", ["center", "none"], ["zero"]),
        node("Add", ["zero", "sides"], ["size"]),
        node("Sub", ["fill", "limit"], ["over"]),
        node("Mul", ["over", "steep"], ["logits"]),
        node("Sigmoid", ["logits"], ["scores"]),
        node("Concat", ["center", "size", "scores"], ["all"], axis=1),
        node("Reshape", ["all", "flat"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [rows, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [rows, 4 + CLASSES, BOXES])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def rows(count: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Images [n, 3, 64, 64] in 0..1, boxes [n, 1, 4] (x1, y1, x2, y2) and classes [n, 1].

    One square of 24 pixels each, up to 2 off a cell's center, on noise; every fifth has none: -1.
    """
    random = np.random.default_rng(seed)
    images = random.uniform(0, 0.02, (count, 3, SIZE, SIZE)).astype(np.float32)
    boxes = np.zeros((count, 1, 4), np.float32)
    classes = np.full((count, 1), -1, np.int64)
    for row in range(count):
        if row % 5 == 4:
            continue
        cell = random.integers(2, CELLS - 2, 2) * STRIDE + STRIDE // 2
        left, top = cell - SIDE // 2 + random.integers(-2, 3, 2)
        cls = int(random.integers(CLASSES))
        images[row, cls, top : top + SIDE, left : left + SIDE] = 1
        boxes[row, 0], classes[row, 0] = (left, top, left + SIDE, top + SIDE), cls
    return np.rint(images * 255).astype(np.float32) / np.float32(255), boxes, classes
