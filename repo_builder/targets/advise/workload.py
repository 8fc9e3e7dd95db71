"""What a model costs before any device is named: layers with their work and data, from the ONNX.

Operators that a compiler merges into the layer before them (activations, normalization, residual
sums) are merged here too; reshapes and quantize/dequantize pairs cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError

if TYPE_CHECKING:
    import onnx

# fmt: off
_FREE = frozenset((
    "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "QuantizeLinear",
    "DequantizeLinear",
))
_FUSED = frozenset((
    "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Pow", "Relu", "LeakyRelu", "PRelu", "Elu",
    "Selu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Tanh", "Erf", "Exp",
    "Log", "Sqrt", "Neg", "Abs", "Softplus", "BatchNormalization", "Where", "Equal", "Greater",
    "Less", "Not", "And", "Or",
))
# fmt: on
_BODIES = frozenset(("If", "Loop", "Scan"))

_LOOKS_UP = frozenset(("Gather", "GatherND", "GatherElements"))
"""What reads of its first input as much as it writes."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One kernel: `macs` multiply-accumulates; the rest are counts of elements, not bytes.

    `weights` are read at each inference. `unread` are weights that lie in memory, of which an
    inference looks up what `reads` counts: tables of embeddings, experts that were not chosen.
    """

    op: str
    macs: int
    weights: int
    reads: int
    writes: int
    depthwise: bool = False
    unread: int = 0


@dataclass(frozen=True)
class Workload:
    """One inference of `batch` rows.

    `live` is the largest number of activation elements that exist at one time; `ops` are the
    operators that a device has to know; `uncounted` names those whose work could not be counted.
    """

    name: str
    batch: int
    layers: tuple[Layer, ...]
    live: int
    ops: frozenset[str] = frozenset()
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Weight elements of all layers."""
        return sum(layer.weights + layer.unread for layer in self.layers)


def read(path: Path, batch: int = 1, shapes: Mapping[str, Shape] | None = None) -> Workload:
    """The workload of an ONNX file, with `batch` where dimension 0 is free.

    `shapes` gives whole input shapes where other dimensions are free too. Raises ModelError for a
    file that cannot be read or whose shapes stay open.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except Exception as failure:  # noqa: BLE001 - protobuf's errors have no common base
        reason = f"{failure}".splitlines()[0] or type(failure).__name__
        raise ModelError(f"{path}: is not an ONNX model: {reason}") from None
    if not model.graph.node:
        raise ModelError(f"{path}: the graph is empty")
    _fix_inputs(model.graph, path, batch, shapes or {})
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as failure:
        reason = f"{failure}".splitlines()[0]
        raise ModelError(f"{path}: shapes cannot be inferred: {reason}") from None
    counter = _Counter(model.graph)
    for node in model.graph.node:
        counter.add(node)
    return counter.workload(path.stem, batch)


def _fix_inputs(
    graph: onnx.GraphProto, path: Path, batch: int, shapes: Mapping[str, Shape]
) -> None:
    """Give every input of the graph a fixed shape and forget what was inferred from free ones."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for name in shapes:
        if name not in {value.name for value in inputs}:
            known = ", ".join(value.name for value in inputs)
            raise ModelError(f"{path}: has no input '{name}'; its inputs: {known}")
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        given = shapes.get(value.name)
        if given is not None and len(given) != len(dims):
            raise ModelError(f"{path}: input '{value.name}' has {len(dims)} dimensions")
        for axis, dim in enumerate(dims):
            if given is not None:
                dim.dim_value = given[axis]
            elif not dim.dim_value and axis == 0:
                dim.dim_value = batch
            elif not dim.dim_value:
                what = f"input '{value.name}' leaves dimension {axis} ({dim.dim_param}) open"
                raise ModelError(f"{path}: {what}; give its shape: --shape {value.name}=1,...")
            elif axis == 0 and dim.dim_value != batch > 1:
                raise ModelError(f"{path}: input '{value.name}' is fixed to batch {dim.dim_value}")
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


class _Counter:
    """Walks the nodes in order; `_home` says which layer (or input, below 0) made a tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._shapes: dict[str, Shape] = {t.name: tuple(t.dims) for t in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            dims = value.type.tensor_type.shape.dim
            if value.name not in self._shapes and all(d.HasField("dim_value") for d in dims):
                self._shapes[value.name] = tuple(d.dim_value for d in dims)
        self._constant = {tensor.name for tensor in graph.initializer}
        inputs = [v.name for v in graph.input if v.name not in self._constant]
        self._home = {name: -1 - i for i, name in enumerate(inputs)}
        self._size = {-1 - i: self._elements(name) for i, name in enumerate(inputs)}
        self._outputs = [value.name for value in graph.output]
        self._layers: list[Layer] = []
        self._last_use = dict.fromkeys(self._size, 0)
        self._weighed: set[str] = set()
        self._ops: set[str] = set()
        self._uncounted: set[str] = set()

    def _elements(self, name: str) -> int:
        return prod(self._shapes[name]) if name in self._shapes else 0

    def add(self, node: onnx.NodeProto) -> None:
        """Count one node: as a constant, as free, into an earlier layer, or as a new one."""
        inputs = [name for name in node.input if name]
        live = [name for name in inputs if name not in self._constant]
        if node.op_type in _BODIES:
            self._uncounted.add(node.op_type)
        if not live or node.op_type == "Shape":
            self._constant.update(node.output)
            return
        homes = {name: self._home[name] for name in live if name in self._home}
        if len(homes) < len(live):
            missing = next(name for name in live if name not in self._home)
            raise ModelError(
                f"node '{node.name or node.op_type}' uses '{missing}' before it exists"
            )
        if node.op_type in _FREE:
            self._home.update(dict.fromkeys(node.output, homes[live[0]]))
            return
        weights = self._weights(inputs)
        writes = sum(self._elements(name) for name in node.output if name)
        known = all(name in self._shapes for name in (*inputs, *filter(None, node.output)))
        if not known:
            self._uncounted.add(node.op_type)
        host = max(homes.values())
        if node.op_type in _FUSED and host >= 0 and self._layers[host].writes == writes:
            others = {home: name for name, home in homes.items() if home != host}
            self._grow(host, weights, sum(self._elements(name) for name in others.values()))
            if node.op_type != "BatchNormalization":  # compilers fold it into the weights
                self._ops.add(node.op_type)
        else:
            self._ops.add(node.op_type)
            macs, depthwise = self._macs(node, inputs) if known else (0, False)
            host = len(self._layers)
            reads = sum(self._elements(name) for name in dict.fromkeys(live))
            unread = 0
            if node.op_type in _LOOKS_UP and inputs[0] in self._constant:
                unread, weights, reads = weights, 0, reads + writes
            made = Layer(node.op_type, macs, weights, reads, writes, depthwise, unread)
            self._layers.append(made)
            self._size[host] = writes
        for home in homes.values():
            self._last_use[home] = host
        self._last_use.setdefault(host, host)
        self._home.update(dict.fromkeys(node.output, host))

    def _weights(self, inputs: Sequence[str]) -> int:
        """Elements of constants that no layer counted before."""
        new = [n for n in dict.fromkeys(inputs) if n in self._constant and n not in self._weighed]
        self._weighed.update(new)
        return sum(self._elements(name) for name in new)

    def _grow(self, host: int, weights: int, reads: int) -> None:
        old = self._layers[host]
        self._layers[host] = replace(old, weights=old.weights + weights, reads=old.reads + reads)

    def _macs(self, node: onnx.NodeProto, inputs: Sequence[str]) -> tuple[int, bool]:
        """Multiply-accumulates of a node, and whether it is a depthwise convolution."""
        out = self._elements(node.output[0])
        shapes = [self._shapes[name] for name in inputs]
        op = node.op_type
        if op in ("Conv", "ConvInteger", "QLinearConv"):
            kernel = shapes[3 if op == "QLinearConv" else 1]
            group = _attribute(node, "group", 1)
            return out * prod(kernel[1:]), group > 1 and kernel[1:2] == (1,)
        if op == "ConvTranspose":
            return prod(shapes[0]) * prod(shapes[1][1:]), False
        if op == "Gemm":
            inner = shapes[0][0 if _attribute(node, "transA", 0) else -1]
            return out * inner, False
        if op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
            return out * shapes[0][-1], False
        if op in ("LSTM", "GRU", "RNN"):
            steps = prod(shapes[0][:2])
            return steps * (prod(shapes[1][1:]) + prod(shapes[2][1:])) * shapes[1][0], False
        if op in ("Einsum", "Attention", "MultiHeadAttention", "QAttention"):
            self._uncounted.add(op)
        return 0, False

    def workload(self, name: str, batch: int) -> Workload:
        """Everything counted so far."""
        end = len(self._layers)
        for output in self._outputs:
            if output in self._home:
                self._last_use[self._home[output]] = end
        live = max(
            sum(
                size
                for home, size in self._size.items()
                if home <= now and self._last_use.get(home, now) >= now
            )
            for now in range(end or 1)
        )
        uncounted = tuple(sorted(self._uncounted))
        return Workload(name, batch, tuple(self._layers), live, frozenset(self._ops), uncounted)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    found: Any = next((a.i for a in node.attribute if a.name == name), default)
    return int(found)
