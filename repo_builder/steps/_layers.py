"""The layers of a model that are quantized, or left in floating point, as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from repo_builder.steps import _canonical, _quantizable

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MOVERS = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Split", "MaxPool", "Pad"}
)
"""Operators that give out values which they were given: their scale is that of their input."""

RECTIFIERS = frozenset({"Relu", "Clip"})
"""Operators that runtimes join with the one before them."""

SEVERAL = frozenset({"Add", "Mul", "Concat", "MatMul"})
"""Operators whose inputs are all values; of others the first is, and the rest say how."""


@dataclass(frozen=True)
class Layer:
    """Nodes that one decision is made for: a heavy one, or one between, with what moves its values.

    `name` and `kind` are the leading node's, `weights` the elements of its stored operands and
    `channels` the scales of those; `macs` are multiply-accumulates of one run.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    weights: int
    channels: int
    macs: int

    @property
    def saved(self) -> int:
        """Bytes that int8 saves: three of each weight's four, less a scale for each channel."""
        return max(3 * self.weights - 4 * self.channels, 0)


def values(node: NodeProto) -> list[str]:
    """The inputs of a node that are quantized with it, weights too; biases have no range."""
    if node.op_type in _quantizable.HEAVY:
        return list(node.input[:2])
    return [name for name in node.input if name] if node.op_type in SEVERAL else [node.input[0]]


def find(
    model: ModelProto, nodes: Sequence[NodeProto], shapes: Mapping[str, Sequence[int]]
) -> list[Layer]:
    """The layers that `nodes` are, in their order; each node is in one.

    `shapes` are those of inner tensors and inputs in one run.
    """
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    groups = _grouped(nodes)
    return [_layer(group, stored, shapes) for group in groups]


def _grouped(nodes: Sequence[NodeProto]) -> list[list[NodeProto]]:
    """Nodes that move or cut values join the layer that makes these, else one that reads them."""
    made: dict[str, int] = {}
    groups: list[list[NodeProto]] = []
    for node in nodes:
        joins = node.op_type in MOVERS | RECTIFIERS and node.input[0] in made
        if not joins:
            groups.append([])
        number = made[node.input[0]] if joins else len(groups) - 1
        groups[number].append(node)
        made.update((name, number) for name in node.output if name)
    for number, group in enumerate(groups):
        if all(node.op_type in MOVERS | RECTIFIERS for node in group):
            outputs = {name for node in group for name in node.output}
            readers = (
                other
                for other in groups[number + 1 :]
                if any(outputs.intersection(values(node)) for node in other)
            )
            if (reader := next(readers, None)) is not None:
                reader[:0] = group
                group.clear()
    return [group for group in groups if group]


def _layer(
    group: Sequence[NodeProto],
    stored: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, Sequence[int]],
) -> Layer:
    lead = next((node for node in group if node.op_type not in MOVERS | RECTIFIERS), group[0])
    weights = channels = 0
    for node in group:
        for name in values(node):
            if name in stored:
                weights += prod(stored[name])
                axis = _quantizable.axis(node, len(stored[name])) if _heavy(node) else None
                channels += 1 if axis is None else stored[name][axis]
    macs = sum(_macs(node, stored, shapes) for node in group)
    names = tuple(node.name for node in group)
    return Layer(lead.name, lead.op_type, names, weights, channels, macs)


def _heavy(node: NodeProto) -> bool:
    return node.op_type in _quantizable.HEAVY


def _macs(
    node: NodeProto, stored: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Sequence[int]]
) -> int:
    """Multiply-accumulates of one run; 0 of what is not heavy."""
    if not _heavy(node):
        return 0
    given, made = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    if node.op_type == "ConvTranspose":
        return prod(given) * prod(stored[node.input[1]][1:])
    if node.op_type == "Conv":
        return prod(made) * prod(stored[node.input[1]][1:])
    transposed = node.op_type == "Gemm" and _canonical.attributes(node).get("transA")
    return prod(made) * (given[0 if transposed else -1] if given else 0)


def share(layers: Iterable[Layer], part: Iterable[Layer]) -> float:
    """The share of the work of `layers` that `part` does; 0 where there is none."""
    whole = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in part) / whole if whole else 0.0
