"""Operators that slide a window over a feature map, and matrix products.

One-dimensional ones are written as two-dimensional with a height of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.tflite.flatbuffer import Quantization
from repo_builder.tflite.layout import CHANNELS_LAST, Value, memory, plain
from repo_builder.tflite.qdq import Constant, Op
from repo_builder.tflite.writer import View, Writer, optional

Array = npt.NDArray[Any]

SAME, VALID = 0, 1


def image_shape(op: Op, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A feature map's shape as [N, C, H, W]; H is 1 for [N, C, L]."""
    if len(shape) == 4:
        return shape
    if len(shape) == 3:
        return (shape[0], shape[1], 1, shape[2])
    raise op.fail(f"{len(shape) - 2} spatial dimensions", "use one or two")


@dataclass(frozen=True)
class _Window:
    """A sliding window: all pairs are (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    """Padding above and left of the input, as ONNX has it."""

    def missing(self, size: tuple[int, int], out: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Padding (before, after) that is really read, for each axis."""
        pads = []
        for axis in (0, 1):
            reach = (out[axis] - 1) * self.stride[axis]
            reach += (self.kernel[axis] - 1) * self.dilation[axis] + 1
            after = max(reach - size[axis] - self.before[axis], 0)
            pads.append((self.before[axis], after))
        return tuple(pads)

    def is_same(self, size: tuple[int, int], out: tuple[int, int]) -> bool:
        """Whether TFLite's SAME padding is this one: split in half, the smaller half first."""
        return all(
            out[axis] == -(-size[axis] // self.stride[axis]) and before == (before + after) // 2
            for axis, (before, after) in enumerate(self.missing(size, out))
        )


def _window(
    op: Op, kernel: tuple[int, ...], size: tuple[int, ...], out: tuple[int, ...]
) -> _Window:
    """The window that an operator's attributes describe."""
    rank = len(kernel)
    lead = (1,) * (2 - rank)
    stride = (*lead, *op.attributes.get("strides", (1,) * rank))
    dilation = (*lead, *op.attributes.get("dilations", (1,) * rank))
    kernel = (*lead, *kernel)
    automatic = bytes(op.attributes.get("auto_pad", b"NOTSET")).decode()
    if automatic.startswith("SAME"):
        before = []
        for axis in (0, 1):
            reach = (out[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
            total = max(reach - size[axis], 0)
            before.append(total // 2 if automatic == "SAME_UPPER" else total - total // 2)
    else:
        pads = op.attributes.get("pads", (0,) * (2 * rank))
        before = [*([0] * (2 - rank)), *pads[:rank]]
    return _Window(
        (kernel[0], kernel[1]),
        (stride[0], stride[1]),
        (dilation[0], dilation[1]),
        (before[0], before[1]),
    )


def _feature_map(w: Writer, op: Op) -> Value:
    value = w.value(op, 0)
    return w.layouts.stored(value.reshaped(image_shape(op, value.shape)), CHANNELS_LAST)


def _padded(w: Writer, value: Value, pads: tuple[tuple[int, int], ...], fill: int) -> Value:
    """The feature map with rows and columns of the stored value `fill` around it."""
    (top, bottom), (left, right) = pads
    batch, channels, height, width = value.shape
    shape = (batch, channels, height + top + bottom, width + left + right)
    dims = tuple(shape[axis] for axis in CHANNELS_LAST)
    name = f"{w.builder.tensors[value.index].name}/padded"
    index = w.builder.tensor(name, dims, np.int8, value.quantization)
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    inputs = [value.index, w.builder.constant("paddings", amounts)]
    if fill == value.zero_point:  # PAD fills with the zero point
        w.builder.operator("PAD", inputs, [index], "PadOptions")
    else:
        number = w.builder.constant("fill", np.array([fill], np.int8), value.quantization)
        w.builder.operator("PADV2", [*inputs, number], [index], "PadV2Options")
    return Value(index, shape, shape, CHANNELS_LAST, value.scale, value.zero_point)


def _place(
    w: Writer, value: Value, window: _Window, out: tuple[int, int], fill: int
) -> tuple[Value, int]:
    """The input as the window wants it, and TFLite's padding scheme."""
    size = (value.shape[2], value.shape[3])
    pads = window.missing(size, out)
    if not any(sum(pad) for pad in pads):
        return value, VALID
    if window.is_same(size, out):
        return value, SAME
    return _padded(w, value, pads, fill), VALID


def conv(w: Writer, op: Op) -> None:
    """Conv -> CONV_2D, or DEPTHWISE_CONV_2D where each input channel has its own filters."""
    value = _feature_map(w, op)
    weights, stored = _weights(op)
    shape = image_shape(op, op.outputs[0].shape)
    window = _window(op, stored.shape[2:], value.shape[2:], shape[2:])
    value, padding = _place(w, value, window, (shape[2], shape[3]), value.zero_point)
    filters = stored.reshape(*stored.shape[:2], *window.kernel)
    channels, group = value.shape[1], int(op.attributes.get("group", 1))
    fields: dict[str, Any] = {
        "padding": padding,
        "strideH": window.stride[0],
        "strideW": window.stride[1],
        "dilationHFactor": window.dilation[0],
        "dilationWFactor": window.dilation[1],
    }
    code, options, axes, axis = "CONV_2D", "Conv2DOptions", (0, 2, 3, 1), 0
    if group == channels > 1:
        code, options, axes, axis = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", (1, 2, 3, 0), 3
        fields["depthMultiplier"] = shape[1] // channels
    elif group > 1:
        fix = "use group 1, or one group for each input channel (depthwise)"
        raise op.fail(f"{group} groups over {channels} channels", fix)
    quantization = Quantization(weights.scale, 0, axis)
    filters_index = w.builder.constant(weights.name, filters.transpose(axes), quantization)
    bias = _bias(w, op, value.scale, weights.scale, shape[1])
    inputs = [value.index, filters_index, bias]
    w.emit(op, code, inputs, View(shape, CHANNELS_LAST), options, **fields)


def conv_transpose(w: Writer, op: Op) -> None:
    """ConvTranspose -> TRANSPOSE_CONV; padding that TFLite has no name for is cut off after it."""
    value = _feature_map(w, op)
    weights, stored = _weights(op)
    shape = image_shape(op, op.outputs[0].shape)
    if int(op.attributes.get("group", 1)) != 1:
        raise op.fail("a transposed convolution in groups", "use group 1, or Resize and Conv")
    window = _window(op, stored.shape[2:], value.shape[2:], shape[2:])
    if window.dilation != (1, 1):
        raise op.fail("a dilated transposed convolution", "use dilation 1, or Resize and Conv")
    if "auto_pad" in op.attributes and op.attributes["auto_pad"] != b"NOTSET":
        raise op.fail("automatic padding", "export it with explicit pads")
    full = [
        (value.shape[2 + axis] - 1) * window.stride[axis] + window.kernel[axis] for axis in (0, 1)
    ]
    for axis in (0, 1):
        full[axis] = max(full[axis], window.before[axis] + shape[2 + axis])
    filters = stored.reshape(*stored.shape[:2], *window.kernel)
    inputs = [
        w.numbers("output_shape", [shape[0], full[0], full[1], shape[1]]),
        w.builder.constant(
            weights.name, filters.transpose(1, 2, 3, 0), Quantization(weights.scale, 0, 0)
        ),
        value.index,
        _bias(w, op, value.scale, weights.scale, shape[1]),
    ]
    whole = (shape[0], shape[1], full[0], full[1])
    fields: dict[str, Any] = {
        "padding": VALID,
        "strideH": window.stride[0],
        "strideW": window.stride[1],
    }
    if whole == shape:
        view = View(shape, CHANNELS_LAST)
        w.emit(op, "TRANSPOSE_CONV", inputs, view, "TransposeConvOptions", **fields)
        return
    if op.fused:
        fix = f"quantize the tensor between {op.type} and {op.fused}"
        raise op.fail(f"{op.fused} behind cut-off padding", fix)
    out = op.outputs[0]
    quantization = Quantization(np.array([out.scale], np.float32), out.zero_point)
    dims = tuple(whole[axis] for axis in CHANNELS_LAST)
    index = w.builder.tensor(f"{out.name}/full", dims, np.int8, quantization)
    w.builder.operator("TRANSPOSE_CONV", inputs, [index], "TransposeConvOptions", **fields)
    begin = [0, window.before[0], window.before[1], 0]
    end = [shape[0], begin[1] + shape[2], begin[2] + shape[3], shape[1]]
    cut = [w.numbers("begin", begin), w.numbers("end", end), w.numbers("strides", [1, 1, 1, 1])]
    view = View(shape, CHANNELS_LAST)
    w.emit(op, "STRIDED_SLICE", [index, *cut], view, "StridedSliceOptions")


def pool(w: Writer, op: Op) -> None:
    """MaxPool and AveragePool; both keep their input's scale."""
    value = _feature_map(w, op)
    shape = image_shape(op, op.outputs[0].shape)
    window = _window(op, tuple(op.attributes["kernel_shape"]), value.shape[2:], shape[2:])
    if window.dilation != (1, 1):
        raise op.fail("a dilated pool", "use dilation 1")
    out = (shape[2], shape[3])
    if op.type == "MaxPool":
        code, fill = "MAX_POOL_2D", -128
    else:
        code, fill = "AVERAGE_POOL_2D", value.zero_point
        size = (value.shape[2], value.shape[3])
        pads = window.missing(size, out)
        counted = bool(op.attributes.get("count_include_pad", 0))
        if any(sum(pad) for pad in pads) and not counted and not window.is_same(size, out):
            raise op.fail(
                "padding that TFLite cannot leave out", "set count_include_pad, or no pads"
            )
        if counted and any(sum(pad) for pad in pads):
            value = _padded(w, value, pads, fill)
            window = _Window(window.kernel, window.stride, window.dilation, (0, 0))
    value, padding = _place(w, value, window, out, fill)
    w.emit(
        op,
        code,
        [value.index],
        View(shape, CHANNELS_LAST),
        "Pool2DOptions",
        stored_as=(value.scale, value.zero_point),
        padding=padding,
        strideH=window.stride[0],
        strideW=window.stride[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
    )


def product(w: Writer, op: Op) -> None:
    """Gemm and MatMul with constant weights -> FULLY_CONNECTED."""
    weights, stored = _weights(op)
    attributes = op.attributes
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise op.fail("alpha or beta is not 1", "fold them into the weights")
    if attributes.get("transA", 0):
        raise op.fail("its first input is transposed", "transpose it before")
    if stored.ndim != 2:
        raise op.fail("weights that are not a matrix", "use a matrix, or Conv")
    turned = bool(attributes.get("transB", 0))
    matrix = stored if turned else stored.T
    if weights.scale.size > 1 and weights.axis != (0 if turned else 1):
        raise op.fail("a scale for each input feature", "quantize weights along the outputs")
    value = w.value(op, 0)
    rows = matrix.shape[0]
    if len(value.shape) == 2 and value.order[0] == 0 and value.virtual[0] == value.shape[0]:
        # A flattened feature map stays as it lies: the weights' columns follow its order.
        inner = tuple(axis - 1 for axis in value.order[1:])
        matrix = matrix[:, memory(value.virtual[1:], inner)]
        straight = Value(
            value.index,
            value.dims,
            value.dims,
            plain(len(value.dims)),
            value.scale,
            value.zero_point,
        )
        value = w.layouts.stored(straight.reshaped(value.shape), (0, 1))
    else:
        value = w.layouts.stored(value, plain(len(value.shape)))
    several = weights.scale.size > 1
    inputs = [
        value.index,
        w.builder.constant(weights.name, matrix, Quantization(weights.scale, 0, 0)),
        _bias(w, op, value.scale, weights.scale, rows),
    ]
    shape = op.outputs[0].shape
    w.emit(
        op,
        "FULLY_CONNECTED",
        inputs,
        View(shape, plain(len(shape))),
        "FullyConnectedOptions",
        version=12 if several else 4,
        keepNumDims=len(shape) != 2,
    )


def _weights(op: Op) -> tuple[Constant, Array]:
    """The weights and their int8 values."""
    weights = op.inputs[1]
    if not isinstance(weights, Constant) or weights.stored is None:
        raise op.fail(
            "its weights are not constant int8",
            "quantize them; two activations cannot be multiplied here",
        )
    if weights.stored.dtype != np.int8 or weights.zero_point != 0:
        raise op.fail("its weights are asymmetric", "quantize weights symmetrically to int8")
    return weights, weights.stored


def _bias(w: Writer, op: Op, scale: float, scales: Array, size: int) -> int:
    """The bias as int32 in steps of input scale x weight scale, as TFLite's kernels read it."""
    steps = np.float64(scale) * scales.astype(np.float64)
    bias = optional(op, 2)
    if bias is None:
        values = np.zeros(size, np.int64)
    elif not isinstance(bias, Constant):
        raise op.fail("its bias is not constant", "fold constants: simplify the model")
    elif (
        bias.stored is not None
        and bias.stored.dtype == np.int32
        and np.allclose(bias.scale, steps, rtol=1e-5, atol=0)
    ):
        values = bias.stored.reshape(-1).astype(np.int64)
    else:
        values = np.rint(bias.values.reshape(-1).astype(np.float64) / steps).astype(np.int64)
    if values.size != size:
        values = np.broadcast_to(values, (size,))
    if np.abs(values).max(initial=0) > np.iinfo(np.int32).max:
        raise op.fail("its bias does not fit 32 bits in steps of its scales", "quantize per tensor")
    name = bias.name if bias is not None else f"{op.name}/bias"
    return w.builder.constant(
        name, values.astype(np.int32), Quantization(steps.astype(np.float32), 0, 0)
    )
