"""Reads an explicit-QDQ ONNX model as the integer graph that it means.

QuantizeLinear/DequantizeLinear pairs disappear into the tensors they describe: what is left are
operators between int8 activations (scale, zero point) and constants. uint8 activations become
int8 by subtracting 128 from values and zero point, which changes nothing in what they stand for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import ModelError, Problem, counted, did_you_mean
from repo_builder.introspect.static import with_static_shapes

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]

_WAYS_OUT = {
    "BatchNormalization": "fold it into the convolution before: set optimize.simplify",
    "Shape": "fold it: set optimize.simplify, and fix dynamic dimensions",
    "Cast": "export without casts between operators",
    "Erf": "use Relu or HardSwish instead of GELU",
    "NonMaxSuppression": "end the model before it and suppress on the host",
}

_FUSED_CLIPS = {(0.0, 6.0): "Relu6", (-1.0, 1.0): "ReluN1To1"}


@dataclass(frozen=True)
class Activation:
    """An int8 tensor that is computed: real = scale * (stored - zero_point); `shape` as in ONNX."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor known beforehand.

    `values` are the real numbers (or integers, for shapes, axes and pads). Where it is quantized,
    `stored` are its int8 or int32 values, `scale` has one entry or one per index of `axis`, and
    `zero_point` is a single int.
    """

    name: str
    values: Array
    stored: Array | None = None
    scale: Array = field(default_factory=lambda: np.ones(1, np.float32))
    zero_point: int = 0
    axis: int = 0


Operand: TypeAlias = "Activation | Constant | None"


@dataclass(frozen=True)
class Op:
    """An ONNX operator on integers; `fused` is the activation applied before its output is stored.

    `fused` is one of "", "Relu", "Relu6", "ReluN1To1". The type "Requantize" is not ONNX's: it
    stores a tensor again with another scale.
    """

    type: str
    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Activation, ...]
    attributes: Mapping[str, Any]
    fused: str = ""

    def fail(self, what: str, fix: str) -> ModelError:
        """The error to raise for this operator, naming it."""
        return ModelError(
            "cannot write as int8 TFLite",
            [Problem(what, fix, field=f"{self.type} node '{self.name}'")],
        )


@dataclass(frozen=True)
class Graph:
    """A whole model: its ports, in ONNX's order, and its operators in an order that runs."""

    inputs: tuple[Activation, ...]
    outputs: tuple[Activation, ...]
    ops: tuple[Op, ...]


def read(model: onnx.ModelProto, known: Collection[str]) -> Graph:
    """The integer graph of a QDQ model, with batch 1 where the batch is dynamic.

    Raises ModelError where another dimension is dynamic, with every kind of operator that is not
    among the `known`, or where a tensor between two operators is not quantized.
    """
    return _Reader(with_static_shapes(model, "cannot write as int8 TFLite"), known).graph()


class _Reader:
    def __init__(self, model: onnx.ModelProto, known: Collection[str]) -> None:
        from onnx import numpy_helper

        graph = model.graph
        self.model = graph
        self.known = known
        self.arrays: dict[str, Array] = {
            item.name: numpy_helper.to_array(item) for item in graph.initializer
        }
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.made_by = {name: node for node in graph.node for name in node.output}
        self.used_by: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.used_by[name].append(node)
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in [*graph.input, *graph.value_info, *graph.output]
        }
        self.ops: list[Op] = []
        self.problems: list[Problem] = []
        self.unknown: dict[str, list[str]] = {}
        self.unquantized: list[tuple[str, str]] = []

    def graph(self) -> Graph:
        inputs = []
        for port in self.model.input:
            if port.name in self.arrays:
                continue
            stored = self._stored(port.name)
            if stored is None:
                self._unquantized(port.name, f"input '{port.name}'")
                continue
            inputs.append(stored)
            self._requantize(port.name)
        for node in self.model.node:
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Constant"):
                self._operator(node)
        outputs = [self._operand(port.name) for port in self.model.output]
        for port, output in zip(self.model.output, outputs, strict=True):
            if not isinstance(output, Activation):
                self._unquantized(port.name, f"output '{port.name}'")
        self.problems += self._missing()
        if self.problems:
            raise ModelError("cannot write as int8 TFLite", self.problems)
        return Graph(
            tuple(inputs),
            tuple(output for output in outputs if isinstance(output, Activation)),
            tuple(self.ops),
        )

    def _operator(self, node: onnx.NodeProto) -> None:
        from onnx import helper

        if node.op_type not in self.known:
            self.unknown.setdefault(node.op_type, []).append(node.name or node.output[0])
            return
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        made_by_fusion = node.op_type in ("Relu", "Clip") and self._fused_into(node)
        if made_by_fusion:
            return
        name = node.name or node.output[0]
        place = f"{node.op_type} node '{name}'"
        outputs, fused = [], ""
        for output in node.output:
            stored = self._stored(output)
            users = self.used_by[output]
            if stored is None and len(users) == 1 and (kind := self._fusable(users[0])):
                fused, output = kind, users[0].output[0]  # noqa: PLW2901
                stored = self._stored(output)
            if stored is None:
                self._unquantized(output, place)
                return
            outputs.append(stored)
        operands = []
        for given in node.input:
            operand = self._operand(given) if given else None
            if given and operand is None:
                self._unquantized(given, place)
                return
            operands.append(operand)
        self.ops.append(Op(node.op_type, name, tuple(operands), tuple(outputs), attributes, fused))
        for stored in outputs:
            self._requantize(stored.name)

    def _fused_into(self, node: onnx.NodeProto) -> bool:
        """Whether this activation was taken into the operator before it."""
        source = self.made_by.get(node.input[0])
        return (
            source is not None
            and source.op_type != "DequantizeLinear"
            and len(self.used_by[node.input[0]]) == 1
            and bool(self._fusable(node))
        )

    def _fusable(self, node: onnx.NodeProto) -> str:
        if node.op_type == "Relu":
            return "Relu"
        if node.op_type != "Clip" or len(node.input) != 3:
            return ""
        limits = [self._operand(name) for name in node.input[1:]]
        if not all(isinstance(limit, Constant) for limit in limits):
            return ""
        low, high = (float(limit.values) for limit in limits if isinstance(limit, Constant))
        return _FUSED_CLIPS.get((low, high), "")

    def _unquantized(self, tensor: str, place: str) -> None:
        self.unquantized.append((tensor, place))

    def _missing(self) -> Iterator[Problem]:
        """What has no int8 form: a line for each kind of operator, else one for all tensors."""
        for kind, names in self.unknown.items():
            way_out = _WAYS_OUT.get(kind) or f"replace it; {did_you_mean(kind, self.known)}"
            yield Problem(f"int8 TFLite has no {counted(kind, names)}", way_out)
        if self.unquantized and not self.unknown:
            tensor, place = self.unquantized[0]
            more = len(self.unquantized) - 1
            what = f"tensor '{tensor}' is not quantized" + (
                f", nor are {more} more" if more else ""
            )
            fix = "quantize every operator: no float parts, no excluded nodes"
            yield Problem(what, fix, field=place)

    def _quantizers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.used_by[tensor] if node.op_type == "QuantizeLinear"]

    def _stored(self, tensor: str) -> Activation | None:
        """The float tensor as it is stored: with its first quantizer's scale and zero point."""
        quantizers = self._quantizers(tensor)
        return self._activation(tensor, quantizers[0]) if quantizers else None

    def _requantize(self, tensor: str) -> None:
        """Where a tensor is quantized in several ways: store it again for each further one."""
        first = self._stored(tensor)
        seen = {first}
        for quantizer in self._quantizers(tensor):
            other = self._activation(tensor, quantizer)
            if other not in seen:
                seen.add(other)
                self.ops.append(Op("Requantize", quantizer.name, (first,), (other,), {}))

    def _activation(self, tensor: str, quantizer: onnx.NodeProto) -> Activation:
        scale, zero_point, shift = self._quantization(quantizer)
        return Activation(
            tensor, self.shapes[tensor], float(scale.reshape(-1)[0]), zero_point - shift
        )

    def _quantization(self, node: onnx.NodeProto) -> tuple[Array, int, int]:
        """Scale, zero point and 128 for unsigned values (0 for signed) of a Q or DQ node."""
        scale = self.arrays[node.input[1]].astype(np.float32)
        if len(node.input) < 3:
            return scale, 0, 128
        zero_points = self.arrays[node.input[2]]
        if zero_points.dtype not in (np.int8, np.uint8, np.int32):
            what = f"{zero_points.dtype} values"
            fix = "quantize to 8 bits"
            self.problems.append(Problem(what, fix, field=f"{node.op_type} node '{node.name}'"))
        shift = 128 if zero_points.dtype == np.uint8 else 0
        unique = np.unique(zero_points)
        if len(unique) != 1:
            what, fix = "one zero point for each channel", "quantize weights symmetrically"
            self.problems.append(Problem(what, fix, field=f"{node.op_type} node '{node.name}'"))
        return scale, int(unique[0]), shift

    def _operand(self, tensor: str) -> Operand:
        """What an operator reads under this name; None where it is a float activation."""
        if tensor in self.arrays:
            return Constant(tensor, self.arrays[tensor])
        node = self.made_by.get(tensor)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        quantized = node.input[0]
        if quantized in self.arrays:
            return self._constant(quantized, node, self.arrays[quantized])
        quantizer = self.made_by.get(quantized)
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            return None
        source = quantizer.input[0]
        if source in self.arrays:
            return self._constant(source, node, self._quantize(quantizer, self.arrays[source]))
        origin = self._operand(source)
        if origin is None:
            return self._activation(source, quantizer)
        # A pair directly behind another: the same values stored with another scale.
        stored = self._activation(source, quantizer)
        if isinstance(origin, Activation):
            if (origin.scale, origin.zero_point) == (stored.scale, stored.zero_point):
                return origin
            op = Op("Requantize", quantizer.name, (origin,), (stored,), {})
            if not any(stored in known.outputs for known in self.ops):
                self.ops.append(op)
        return stored

    def _quantize(self, node: onnx.NodeProto, values: Array) -> Array:
        """What QuantizeLinear makes of a constant: round half to even, then saturate."""
        scale, zero_point, _ = self._quantization(node)
        kind = self.arrays[node.input[2]].dtype if len(node.input) > 2 else np.dtype(np.uint8)
        limits = np.iinfo(kind)
        steps = np.rint(values / _along(scale, _axis(node), values.ndim)) + zero_point
        return np.clip(steps, limits.min, limits.max).astype(kind)

    def _constant(self, name: str, node: onnx.NodeProto, stored: Array) -> Constant:
        scale, zero_point, shift = self._quantization(node)
        axis = _axis(node) % max(stored.ndim, 1)
        signed = (stored.astype(np.int32) - shift).astype(
            np.int32 if stored.dtype == np.int32 else np.int8
        )
        real = (signed.astype(np.float32) - (zero_point - shift)) * _along(scale, axis, stored.ndim)
        return Constant(name, real, signed, scale.reshape(-1), zero_point - shift, axis)


def _axis(node: onnx.NodeProto) -> int:
    """The axis of scales per channel; 1 where the node does not say (ONNX's default)."""
    return next((int(item.i) for item in node.attribute if item.name == "axis"), 1)


def _along(scale: Array, axis: int, rank: int) -> Array:
    """Scales shaped so that they broadcast along `axis` of a tensor of this rank."""
    if scale.size == 1:
        return scale.reshape(())
    shape: Sequence[int] = [scale.size if i == axis % rank else 1 for i in range(rank)]
    return scale.reshape(shape)
