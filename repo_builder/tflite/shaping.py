"""Operators that move, join, cut, average or resize: the values themselves stay what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.tflite.layout import CHANNELS_LAST, Value, plain
from repo_builder.tflite.qdq import Op
from repo_builder.tflite.writer import View, Writer, known, optional

Array = npt.NDArray[Any]


def reshape(w: Writer, op: Op) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout: the same tensor, read otherwise."""
    w.alias(op.outputs[0], w.value(op, 0).reshaped(op.outputs[0].shape))


def transpose(w: Writer, op: Op) -> None:
    """Transpose: the same tensor, read with other axes."""
    value = w.layouts.natural(w.value(op, 0))
    axes = tuple(op.attributes.get("perm", reversed(range(len(value.shape)))))
    w.alias(op.outputs[0], value.transposed(axes))


def requantize(w: Writer, op: Op) -> None:
    """A second quantization of the same tensor -> QUANTIZE."""
    w.alias(op.outputs[0], w.value(op, 0))


def concat(w: Writer, op: Op) -> None:
    """Concat -> CONCATENATION; inputs get the output's scale first, as its kernel demands."""
    out = op.outputs[0]
    values = [w.layouts.natural(w.value(op, i)) for i in range(len(op.inputs))]
    order = values[0].order
    axis = int(op.attributes["axis"]) % len(out.shape)
    parts = [
        w.rescaled(w.layouts.stored(value, order), out.scale, out.zero_point) for value in values
    ]
    w.emit(
        op,
        "CONCATENATION",
        [part.index for part in parts],
        View(out.shape, order),
        "ConcatenationOptions",
        axis=order.index(axis),
    )


def pad(w: Writer, op: Op) -> None:
    """Pad with a constant -> PAD, or PADV2 where the constant is not zero."""
    value = w.layouts.natural(w.value(op, 0))
    if bytes(op.attributes.get("mode", b"constant")) != b"constant":
        raise op.fail("padding that mirrors or repeats", "pad with a constant")
    rank = len(value.shape)
    amounts = known(op, 1, "padding").reshape(2, -1).T
    if optional(op, 3) is not None:
        axes = [int(axis) % rank for axis in known(op, 3, "axes").reshape(-1)]
        whole = np.zeros((rank, 2), np.int64)
        whole[axes] = amounts
        amounts = whole
    if (amounts < 0).any():
        raise op.fail("negative padding", "use Slice")
    fill = float(known(op, 2, "fill").reshape(())) if optional(op, 2) is not None else 0.0
    stored = int(np.clip(np.rint(fill / value.scale) + value.zero_point, -128, 127))
    paddings = w.builder.constant("paddings", amounts[list(value.order)].astype(np.int32))
    inputs, code = [value.index, paddings], "PAD"
    if stored != value.zero_point:
        number = w.builder.constant("fill", np.array([stored], np.int8), value.quantization)
        inputs, code = [*inputs, number], "PADV2"
    view = View(op.outputs[0].shape, value.order)
    options = "PadOptions" if code == "PAD" else "PadV2Options"
    w.emit(op, code, inputs, view, options, stored_as=(value.scale, value.zero_point))


def slice_(w: Writer, op: Op) -> None:
    """Slice -> STRIDED_SLICE."""
    value = w.layouts.natural(w.value(op, 0))
    rank = len(value.shape)
    starts = known(op, 1, "start").reshape(-1)
    axes = list(range(starts.size))
    if optional(op, 3) is not None:
        axes = [int(axis) % rank for axis in known(op, 3, "axes").reshape(-1)]
    steps = np.ones(starts.size, np.int64)
    if optional(op, 4) is not None:
        steps = known(op, 4, "step").reshape(-1)
    if (steps < 1).any():
        raise op.fail("a negative step", "use steps of 1 or more")
    begin, stride = [0] * rank, [1] * rank
    for axis, start, step in zip(axes, starts, steps, strict=True):
        size = value.shape[axis]
        begin[axis] = int(np.clip(start + size if start < 0 else start, 0, size))
        stride[axis] = int(step)
    _cut(w, op, value, begin, stride)


def split(w: Writer, op: Op) -> None:
    """Split -> one STRIDED_SLICE for each output that is used."""
    value = w.layouts.natural(w.value(op, 0))
    axis = int(op.attributes.get("axis", 0)) % len(value.shape)
    begin = [0] * len(value.shape)
    for number, out in enumerate(op.outputs):
        _cut(w, op, value, list(begin), [1] * len(begin), output=number)
        begin[axis] += out.shape[axis]


def _cut(
    w: Writer, op: Op, value: Value, begin: list[int], stride: list[int], *, output: int = 0
) -> None:
    """Cut output `output` out of `value`; `begin` and `stride` are in ONNX's order."""
    out = op.outputs[output]
    end = [b + s * n for b, s, n in zip(begin, stride, out.shape, strict=True)]
    end = [min(limit, size) for limit, size in zip(end, value.shape, strict=True)]
    inputs = [value.index]
    for name, numbers in (("begin", begin), ("end", end), ("strides", stride)):
        inputs.append(w.numbers(name, [numbers[axis] for axis in value.order]))
    w.emit(
        op,
        "STRIDED_SLICE",
        inputs,
        View(out.shape, value.order),
        "StridedSliceOptions",
        stored_as=(value.scale, value.zero_point),
        output=output,
    )


def mean(w: Writer, op: Op) -> None:
    """ReduceMean and GlobalAveragePool -> MEAN."""
    value = w.layouts.natural(w.value(op, 0))
    rank = len(value.shape)
    if op.type == "GlobalAveragePool":
        axes = list(range(2, rank))
    elif "axes" in op.attributes:
        axes = [int(axis) % rank for axis in op.attributes["axes"]]
    elif optional(op, 1) is not None:
        axes = [int(axis) % rank for axis in known(op, 1, "axes").reshape(-1)]
    else:
        axes = list(range(rank))
    out = op.outputs[0]
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    # MEAN keeps its axes here; where ONNX drops them, the result is read as the shorter shape.
    numbers = w.numbers("axes", sorted(value.order.index(axis) for axis in axes))
    view = View(kept, value.order)
    w.emit(op, "MEAN", [value.index, numbers], view, "ReducerOptions", keepDims=True)
    w.values[out] = w.values[out].reshaped(out.shape)


def global_max(w: Writer, op: Op) -> None:
    """GlobalMaxPool -> REDUCE_MAX."""
    value = w.layouts.natural(w.value(op, 0))
    axes = w.numbers("axes", sorted(value.order.index(a) for a in range(2, len(value.shape))))
    view = View(op.outputs[0].shape, value.order)
    same = (value.scale, value.zero_point)
    w.emit(
        op, "REDUCE_MAX", [value.index, axes], view, "ReducerOptions", stored_as=same, keepDims=True
    )


def softmax(w: Writer, op: Op) -> None:
    """Softmax -> SOFTMAX over the last stored axis; its kernel writes a scale of 1/256."""
    value = w.layouts.natural(w.value(op, 0))
    rank = len(value.shape)
    axis = int(op.attributes.get("axis", -1)) % rank
    if value.order[-1] != axis:
        value = w.layouts.stored(value, (*(a for a in plain(rank) if a != axis), axis))
    view = View(value.shape, value.order)
    same = (1 / 256, -128)
    w.emit(op, "SOFTMAX", [value.index], view, "SoftmaxOptions", stored_as=same, beta=1.0)


def resize(w: Writer, op: Op) -> None:
    """Resize -> RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR, where both read the same pixels."""
    value = w.value(op, 0)
    out = op.outputs[0]
    if len(value.shape) != 4 or out.shape[:2] != value.shape[:2]:
        raise op.fail("it resizes more than height and width", "resize [N, C, H, W] maps only")
    value = w.layouts.stored(value, CHANNELS_LAST)
    mode = bytes(op.attributes.get("mode", b"nearest")).decode()
    how = bytes(op.attributes.get("coordinate_transformation_mode", b"half_pixel")).decode()
    sizes = w.numbers("size", out.shape[2:])
    view = View(out.shape, CHANNELS_LAST)
    same = (value.scale, value.zero_point)
    inputs = [value.index, sizes]
    if mode == "nearest":
        rounding = bytes(op.attributes.get("nearest_mode", b"round_prefer_floor")).decode()
        for old, new in zip(value.shape[2:], out.shape[2:], strict=True):
            ours = np.floor(np.arange(new) * (old / new)).astype(int)
            if not np.array_equal(ours, _nearest(op, old, new, how, rounding)):
                what = (
                    f"{how} with {rounding} from {old} to {new} reads pixels that TFLite does not"
                )
                raise op.fail(what, "use asymmetric and floor")
        w.emit(
            op,
            "RESIZE_NEAREST_NEIGHBOR",
            inputs,
            view,
            "ResizeNearestNeighborOptions",
            stored_as=same,
        )
    elif mode == "linear" and how in (
        "half_pixel",
        "pytorch_half_pixel",
        "asymmetric",
        "align_corners",
    ):
        fields: dict[str, Any] = {
            "stored_as": same,
            "version": 3,
            "halfPixelCenters": how.endswith("half_pixel"),
            "alignCorners": how == "align_corners",
        }
        w.emit(op, "RESIZE_BILINEAR", inputs, view, "ResizeBilinearOptions", **fields)
    else:
        raise op.fail(f"mode {mode} with {how}", "use nearest or linear")


def _nearest(op: Op, old: int, new: int, how: str, rounding: str) -> Array:
    """The source pixel of each target pixel by ONNX's definition of Resize."""
    target = np.arange(new, dtype=np.float64)
    scale = new / old
    if how in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        source = (target + 0.5) / scale - 0.5
    elif how == "asymmetric":
        source = target / scale
    elif how == "align_corners":
        source = target * (old - 1) / max(new - 1, 1)
    else:
        raise op.fail(f"coordinates by {how}", "use asymmetric and floor")
    rounded: dict[str, Array] = {
        "round_prefer_floor": np.ceil(source - 0.5),
        "round_prefer_ceil": np.floor(source + 0.5),
        "floor": np.floor(source),
        "ceil": np.ceil(source),
    }
    return np.asarray(np.clip(rounded[rounding], 0, old - 1), np.int64)
