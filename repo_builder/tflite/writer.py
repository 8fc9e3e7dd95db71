"""What the operators' writers share: values by name, outputs, constants, requantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.tflite.flatbuffer import Builder, Quantization
from repo_builder.tflite.layout import Layouts, Value
from repo_builder.tflite.qdq import Activation, Constant, Op, Operand

Array = npt.NDArray[Any]

_FUSED = {"": 0, "Relu": 1, "ReluN1To1": 2, "Relu6": 3}


@dataclass(frozen=True)
class View:
    """How an operator's result lies: see `layout.Value`."""

    virtual: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of the stored tensor."""
        return tuple(self.virtual[axis] for axis in self.order)


class Writer:
    """The state of writing one model."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.layouts = Layouts(self.builder)
        self.values: dict[Activation, Value] = {}

    def value(self, op: Op, number: int) -> Value:
        """Input `number` as an activation; an error where it is a constant."""
        operand = op.inputs[number]
        if not isinstance(operand, Activation):
            raise op.fail(f"input {number} is constant", "fold constants: simplify the model")
        return self.values[operand]

    def add(self, activation: Activation, view: View) -> Value:
        """A new tensor for `activation`, stored as `view`."""
        value = Value(
            index=0,
            shape=activation.shape,
            virtual=view.virtual,
            order=view.order,
            scale=activation.scale,
            zero_point=activation.zero_point,
        )
        index = self.builder.tensor(activation.name, view.dims, np.int8, value.quantization)
        self.values[activation] = replace(value, index=index)
        return self.values[activation]

    def emit(
        self,
        op: Op,
        code: str,
        inputs: Sequence[int],
        view: View,
        options: str = "",
        *,
        stored_as: tuple[float, int] | None = None,
        output: int = 0,
        version: int = 0,
        **fields: Any,
    ) -> None:
        """Write an operator for output `output` of `op`.

        `stored_as` is the scale and zero point that this operator can only write; where the model
        wants others, the result is quantized once more.
        """
        wanted = op.outputs[output]
        made = wanted
        if stored_as is not None and stored_as != (wanted.scale, wanted.zero_point):
            name = f"{wanted.name}/{code.lower()}"
            made = replace(wanted, name=name, scale=stored_as[0], zero_point=stored_as[1])
        value = self.add(made, view)
        if options in _CAN_FUSE:
            fields["fusedActivationFunction"] = _FUSED[op.fused]
        elif op.fused:
            fix = f"quantize the tensor between {op.type} and {op.fused}"
            raise op.fail(f"{op.fused} cannot be fused into {code}", fix)
        self.builder.operator(code, inputs, [value.index], options, version, **fields)
        if made is not wanted:
            self.alias(wanted, value)

    def alias(self, wanted: Activation, value: Value) -> None:
        """Let `wanted` be `value`, quantized once more where its scale differs."""
        if (value.scale, value.zero_point) == (wanted.scale, wanted.zero_point):
            self.values[wanted] = value
            return
        result = self.add(wanted, View(value.virtual, value.order))
        self.builder.operator("QUANTIZE", [value.index], [result.index], "QuantizeOptions")

    def rescaled(self, value: Value, scale: float, zero_point: int) -> Value:
        """`value` with the given scale and zero point."""
        if (value.scale, value.zero_point) == (scale, zero_point):
            return value
        name = f"{self.builder.tensors[value.index].name}/rescaled"
        wanted = Activation(name, value.shape, scale, zero_point)
        self.alias(wanted, value)
        return self.values[wanted]

    def numbers(self, name: str, values: Sequence[int]) -> int:
        """A constant vector of int32, such as axes or pads."""
        return self.builder.constant(name, np.array(values, np.int32))


_CAN_FUSE = {
    "Conv2DOptions",
    "DepthwiseConv2DOptions",
    "TransposeConvOptions",
    "FullyConnectedOptions",
    "AddOptions",
    "SubOptions",
    "MulOptions",
    "ConcatenationOptions",
    "Pool2DOptions",
}


def known(op: Op, number: int, what: str) -> Array:
    """The values of input `number`, which must be constant."""
    operand = op.inputs[number] if number < len(op.inputs) else None
    if not isinstance(operand, Constant):
        raise op.fail(f"its {what} is not constant", "fold constants: simplify the model")
    return operand.values


def optional(op: Op, number: int) -> Operand:
    """Input `number`, or None where it is left out."""
    return op.inputs[number] if number < len(op.inputs) else None


def quantized(constant: Constant) -> tuple[Array, Quantization]:
    """A constant operand as int8: as the model stores it, else with a scale of its own."""
    if constant.stored is not None and constant.stored.dtype == np.int8:
        return constant.stored, Quantization(constant.scale, constant.zero_point, constant.axis)
    values = constant.values.astype(np.float64)
    scale = float(np.abs(values).max(initial=0.0)) / 127 or 1.0
    return np.rint(values / scale).astype(np.int8), Quantization(np.array([scale], np.float32))
