"""Operators that treat every element alike: activations and arithmetic with broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.tflite.flatbuffer import Quantization
from repo_builder.tflite.layout import Value, plain
from repo_builder.tflite.qdq import Constant, Op
from repo_builder.tflite.writer import View, Writer, known, optional, quantized

Array = npt.NDArray[Any]

# The scales that TFLite's integer kernels write whatever the model wants.
_UNIT = (1 / 256, -128)
_SYMMETRIC_UNIT = (1 / 128, 0)


def unary(w: Writer, op: Op) -> None:
    """Activations that TFLite has under another name."""
    value = w.value(op, 0)
    view = View(value.virtual, value.order)
    inputs = [value.index]
    if op.type == "Relu":
        w.emit(op, "RELU", inputs, view)
    elif op.type == "LeakyRelu":
        slope = float(op.attributes.get("alpha", 0.01))
        w.emit(op, "LEAKY_RELU", inputs, view, "LeakyReluOptions", alpha=slope)
    elif op.type == "HardSwish":
        w.emit(op, "HARD_SWISH", inputs, view, "HardSwishOptions")
    elif op.type == "Sigmoid":
        w.emit(op, "LOGISTIC", inputs, view, stored_as=_UNIT)
    else:
        w.emit(op, "TANH", inputs, view, stored_as=_SYMMETRIC_UNIT)


def prelu(w: Writer, op: Op) -> None:
    """PRelu -> PRELU, with a slope for each channel."""
    value = w.value(op, 0)
    slope = op.inputs[1]
    if not isinstance(slope, Constant):
        raise op.fail("its slope is not constant", "fold constants: simplify the model")
    inputs = [value.index, _broadcast(w, slope, value)]
    w.emit(op, "PRELU", inputs, View(value.virtual, value.order))


def clip(w: Writer, op: Op) -> None:
    """Clip -> RELU, RELU6, or MAXIMUM and MINIMUM with the limits."""
    value = w.value(op, 0)
    view = View(value.virtual, value.order)
    low = float(known(op, 1, "lower limit")) if optional(op, 1) else -np.inf
    high = float(known(op, 2, "upper limit")) if optional(op, 2) else np.inf
    code = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6"}.get((low, high))
    if code:
        w.emit(op, code, [value.index], view)
        return
    for code, limit in (("MAXIMUM", low), ("MINIMUM", high)):
        if np.isfinite(limit):
            steps = int(np.clip(np.rint(limit / value.scale) + value.zero_point, -128, 127))
            number = w.builder.constant("limit", np.array([steps], np.int8), value.quantization)
            name = f"{op.outputs[0].name}/{code.lower()}"
            index = w.builder.tensor(name, view.dims, np.int8, value.quantization)
            w.builder.operator(code, [value.index, number], [index], "MaximumMinimumOptions")
            value = Value(
                index, value.shape, value.virtual, value.order, value.scale, value.zero_point
            )
    w.alias(op.outputs[0], value)


def hard_sigmoid(w: Writer, op: Op) -> None:
    """HardSigmoid -> MUL by alpha, ADD of beta, cut off where the stored range of 0..1 ends.

    The product's scale is alpha times the input's, so it changes no stored value.
    """
    value = w.value(op, 0)
    alpha = float(op.attributes.get("alpha", 0.2))
    beta = float(op.attributes.get("beta", 0.5))
    view = View(value.virtual, value.order)
    scale = Quantization(np.array([alpha * value.scale], np.float32), value.zero_point)
    scaled = w.builder.tensor(f"{op.outputs[0].name}/scaled", view.dims, np.int8, scale)
    w.builder.operator("MUL", [value.index, _scalar(w, alpha)], [scaled], "MulOptions")
    w.emit(op, "ADD", [scaled, _scalar(w, beta)], view, "AddOptions", stored_as=(1 / 255, -128))


def arithmetic(w: Writer, op: Op) -> None:
    """Add, Sub, Mul -> ADD, SUB, MUL; Div by a constant number -> MUL by its reciprocal."""
    codes = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "MUL"}
    options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}
    first, second = op.inputs[0], op.inputs[1]
    code = codes[op.type]
    if isinstance(first, Constant):
        if isinstance(second, Constant) or op.type == "Div":
            raise op.fail("it has a constant first input", "fold constants: simplify the model")
        right = w.value(op, 1)
        view = View(right.virtual, right.order)
        inputs = [_broadcast(w, first, right), right.index]
    elif isinstance(second, Constant):
        left = w.value(op, 0)
        if op.type == "Div":
            if second.values.size != 1:
                raise op.fail("a divisor that is not one number", "multiply by the reciprocal")
            number = _scalar(w, 1 / float(second.values.reshape(())))
        else:
            number = _broadcast(w, second, left)
        view = View(left.virtual, left.order)
        inputs = [left.index, number]
    else:
        if op.type == "Div":
            raise op.fail("it divides by an activation", "TFLite has no int8 division")
        left, right = _aligned(w, w.value(op, 0), w.value(op, 1))
        virtual = tuple(map(max, left.virtual, right.virtual))
        view = View(virtual, left.order)
        inputs = [left.index, right.index]
    if int(np.prod(view.virtual)) != int(np.prod(op.outputs[0].shape)):
        raise op.fail("a constant larger than the activation", "expand the activation before")
    w.emit(op, code, inputs, view, options[code])


def _scalar(w: Writer, number: float) -> int:
    """A number as int8 127 (or -127) with the scale that makes it exact."""
    scale = Quantization(np.array([abs(number) / 127 or 1.0], np.float32))
    stored = np.array([int(np.sign(number)) * 127], np.int8)
    return w.builder.constant("number", stored, scale)


def _broadcast(w: Writer, constant: Constant, value: Value) -> int:
    """A constant operand laid out so that it broadcasts against `value` as stored."""
    stored, quantization = quantized(constant)
    if stored.size == 1:
        return w.builder.constant(constant.name, stored.reshape(1), quantization)
    shape = (1,) * (len(value.shape) - stored.ndim) + stored.shape
    stored = stored.reshape(shape)
    if value.virtual != value.shape:
        stored = np.broadcast_to(stored, value.shape).reshape(value.virtual)
    return w.builder.constant(constant.name, stored.transpose(value.order), quantization)


def _aligned(w: Writer, left: Value, right: Value) -> tuple[Value, Value]:
    """Both operands with axes that match one to one, stored in the same order."""
    if left.order == right.order and (
        (left.virtual, right.virtual) == (left.shape, right.shape)
        or (_is_row(left) and _is_row(right))
    ):
        return left, right
    rank = max(len(left.shape), len(right.shape))
    left, right = (
        value.reshaped((1,) * (rank - len(value.shape)) + value.shape) for value in (left, right)
    )
    natural = (value for value in (left, right) if value.virtual == value.shape)
    order = next((value.order for value in natural if len(value.order) == rank), plain(rank))
    return w.layouts.stored(left, order), w.layouts.stored(right, order)


def _is_row(value: Value) -> bool:
    """Whether a [N, C, L] value lies as the feature map [N, C, 1, L]."""
    return len(value.virtual) == 4 and value.virtual[:2] + value.virtual[3:] == value.shape
