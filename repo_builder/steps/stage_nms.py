"""`stage-nms`: non-maximum suppression as an ONNX graph, for any runtime that serves ONNX.

Outputs are padded to one size, since Triton batches only rows of equal shape: boxes are 0, scores
0 and classes -1 behind the first `count`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base import detections
from repo_builder.steps import _onnx
from repo_builder.steps._graph import Graph

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
IR_VERSION = 9
"""That of the oldest ONNX Runtime that knows the opset."""


@dataclass(frozen=True)
class Params:
    """See `repo_builder.spec.raw_postprocess.RawNms`; `to_image` moves boxes into the image."""

    iou_threshold: float
    score_threshold: float
    max_boxes: int
    to_image: bool
    layout: str = "corners"
    input_size: Sequence[int] | None = None


@dataclass(frozen=True)
class Inputs:
    """None: all is in the parameters."""


@dataclass(frozen=True)
class Facts:
    """Nothing is found out."""


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Write `model.onnx`: boxes [rows, n, 4] (x1, y1, x2, y2) and scores [rows, n, classes].

    Of the layout `ultralytics` both are in `detections` [rows, 4 + classes, n]; the boxes as center
    x, center y, width, height.
    """
    _onnx.save(graph(params), out)
    return Facts()


def graph(params: Params) -> ModelProto:
    """The graph as a model, checked."""
    import onnx
    from onnx import TensorProto, helper

    made = Graph()
    one = params.layout == detections.LAYOUT
    _suppress(made, params, *(_corners(made) if one else _separate(made)))
    ports = helper.make_tensor_value_info
    given: list[tuple[str, list[int | str]]] = (
        [("detections", ["rows", "channels", "boxes"])]
        if one
        else [("boxes", ["rows", "boxes", 4]), ("scores", ["rows", "boxes", "classes"])]
    )
    if params.to_image:
        given.append(("to_image", ["rows", 4]))
    most = params.max_boxes
    model = helper.make_model(
        helper.make_graph(
            made.nodes,
            "nms",
            [ports(name, TensorProto.FLOAT, shape) for name, shape in given],
            [
                ports("box", TensorProto.FLOAT, ["rows", most, 4]),
                ports("score", TensorProto.FLOAT, ["rows", most]),
                ports("class", TensorProto.INT64, ["rows", most]),
                ports("count", TensorProto.INT64, ["rows", 1]),
            ],
            made.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="repo-builder",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _separate(graph: Graph) -> tuple[str, str]:
    """The inputs as boxes [rows, n, 4] and scores [rows, classes, n]."""
    return "boxes", graph.add("Transpose", ["scores"], "by_class", perm=[0, 2, 1])


def _corners(graph: Graph) -> tuple[str, str]:
    """The same of `detections`: the corners lie half a width and height around the center.

    Gather, and not Slice, since OpenVINO has to see that boxes have four numbers.
    """
    pairs = (("center", graph.int64("xy", 0, 1)), ("size", graph.int64("wh", 2, 3)))
    center, size = (graph.add("Gather", ["detections", of], to, axis=1) for to, of in pairs)
    bounds = (("first", 4), ("last", np.iinfo(np.int64).max), ("channel_axis", 1))
    classes = [graph.int64(name, value) for name, value in bounds]
    by_class = graph.add("Slice", ["detections", *classes], "by_class")
    half = graph.add("Mul", [size, graph.float32("one_half", 0.5, scalar=True)], "half_size")
    low = graph.add("Sub", [center, half], "low_corner")
    high = graph.add("Add", [center, half], "high_corner")
    corners = graph.add("Concat", [low, high], "corners", axis=1)
    return graph.add("Transpose", [corners], "corner_boxes", perm=[0, 2, 1]), by_class


def _suppress(graph: Graph, params: Params, boxes: str, by_class: str) -> None:
    """What is kept gets its score and all else -1; then the best of an image's [classes * n].

    NonMaxSuppression gives rows (image, class, box) of any number, which ScatterND puts back in
    place; a position in the flat row is class * n + box.
    """
    most = graph.int64("max_boxes", params.max_boxes)
    thresholds = (
        graph.float32("iou_threshold", params.iou_threshold),
        graph.float32("score_threshold", params.score_threshold),
    )
    if params.input_size:
        height, width = params.input_size
        pixels = graph.float32("input_size", width, height, width, height)
        boxes = graph.add("Mul", [boxes, pixels], "pixel_boxes")
    kept = graph.add("NonMaxSuppression", [boxes, by_class, most, *thresholds], "kept")
    shape = graph.add("Shape", [by_class], "shape")
    nothing = graph.add("ConstantOfShape", [shape], "nothing", value=_minus_one())
    chosen = graph.add("GatherND", [by_class, kept], "kept_scores")
    marked = graph.add("ScatterND", [nothing, kept, chosen], "marked")
    row = graph.add("Reshape", [marked, graph.int64("as_rows", 0, -1)], "row")
    padding = [graph.int64("padding", 0, 0, 0, params.max_boxes)]
    padded = graph.add(
        "Pad", [row, *padding, graph.float32("minus_one", -1, scalar=True)], "padded"
    )
    zero = graph.float32("zero", 0, scalar=True)
    graph.add("TopK", [padded, most], "best", axis=1, largest=1, sorted=1)
    graph.nodes[-1].output.append("position")
    found = graph.add("GreaterOrEqual", ["best", zero], "found")
    graph.add("Where", [found, "best", zero], "score")

    each = graph.add("Shape", [boxes], "each", start=1, end=2)
    cls = graph.add("Div", ["position", each], "any_class")
    graph.add("Where", [found, cls, graph.int64("no_class", -1, scalar=True)], "class")
    number = graph.add("Mod", ["position", each], "number")
    last = graph.int64("last_axis", 2)
    index = graph.add("Unsqueeze", [number, last], "index")
    box = graph.add("GatherND", [boxes, index], "any_box", batch_dims=1)
    if params.to_image:
        box = _to_image(graph, box)
    mask = graph.add("Unsqueeze", [found, last], "mask")
    graph.add("Where", [mask, box, zero], "box")
    ones = graph.add("Cast", [found], "ones", to=7)  # TensorProto.INT64
    graph.add("ReduceSum", [ones, graph.int64("row_axis", 1)], "count", keepdims=1)


def _to_image(graph: Graph, box: str) -> str:
    """Boxes in the pixels of the image: x * scale + offset, as `Preprocess.apply_and_locate`."""
    middle = graph.int64("middle_axis", 1)
    for name, first in (("scale", 0), ("offset", 2)):
        columns = graph.int64(f"{name}_columns", first, first + 1, first, first + 1)
        four = graph.add("Gather", ["to_image", columns], f"{name}_row", axis=1)
        graph.add("Unsqueeze", [four, middle], name)
    scaled = graph.add("Mul", [box, "scale"], "scaled_box")
    return graph.add("Add", [scaled, "offset"], "image_box")


def _minus_one() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([-1], np.float32))
