"""Which nodes of an ONNX graph to quantize, and which of them int8 would ruin."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError, Problem
from repo_builder.steps import _canonical, _uneven
from repo_builder.steps._calibrate import Histogram

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that int8 makes faster."""

BETWEEN = frozenset(
    {
        *("Add", "Mul", "Concat", "Relu", "Clip", "LeakyRelu", "Sigmoid"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Pad", "Split"),
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
    }
)
"""Operators that can stay in int8 between two heavy ones. Softmax and normalizations are not
here: they lose much in 8 bits and gain little."""


def chosen(model: ModelProto, exclude: Iterable[str], whole: bool) -> list[NodeProto]:
    """The nodes to quantize: heavy ones, those between, and an activation right behind.

    What follows the last heavy node stays in floating point: it costs little, and a detector
    decodes boxes there. With `whole` all nodes are chosen, for toolchains without floating point.
    ModelError: a glob of `exclude` matches no node.
    """
    nodes = model.graph.node
    stored = {tensor.name for tensor in model.graph.initializer}
    captured = _canonical.captured(model.graph)
    heavy = {node.name for node in nodes if _heavy(node, stored)}
    excluded = _excluded(nodes, list(exclude))
    leads_on: set[str] = set()  # tensors that a heavy node uses, near or far
    for node in reversed(nodes):
        if node.name in heavy or any(name in leads_on for name in node.output):
            leads_on.update(node.input)
    from_heavy = {name for node in nodes if node.name in heavy for name in node.output}
    return [
        node
        for node in nodes
        if node.name not in excluded
        # The quantizer takes such a node out of the graph, and its input's name with it.
        and not (node.op_type in ("Relu", "Clip") and node.input[0] in captured)
        and (
            whole
            or node.name in heavy
            or (node.op_type in BETWEEN and any(name in leads_on for name in node.output))
            or (node.op_type in ("Relu", "Clip") and node.input[0] in from_heavy)
        )
    ]


def roles(model: ModelProto, nodes: Iterable[NodeProto]) -> dict[tuple[str, int], str]:
    """How each input of the nodes to quantize will be: node and number of the input -> role.

    Inputs of one role can share a tensor: weights with scales along one axis, activations.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[tuple[str, int], str] = {}
    for node in nodes:
        for number, name in enumerate(node.input):
            if number == 2 and node.op_type in ("Conv", "ConvTranspose", "Gemm"):
                found[node.name, number] = f"bias of {node.name}"
            elif number == 1 and node.op_type in HEAVY and name in stored:
                found[node.name, number] = f"weights along {axis(node, len(stored[name].dims))}"
            elif name:
                found[node.name, number] = "activation"
    return found


def axis(node: NodeProto, rank: int) -> int | None:
    """The axis of a heavy node's weights that is the output's channels; None where none is one.

    Runtimes scale the whole tensor then: batched matrices, transposed convolutions in groups.
    """
    attributes = _canonical.attributes(node)
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB") else 1
    return 1 if rank == 2 else None


def kept(
    model: ModelProto, nodes: Sequence[NodeProto], seen: Mapping[str, Histogram], whole: bool
) -> tuple[list[NodeProto], dict[str, str]]:
    """The nodes that int8 does not ruin, and for the others why they stay in floating point.

    `seen`: what the tensors around them were on calibration data. ModelError: int8 would ruin a
    node that cannot stay in floating point.
    """
    leads_on: set[str] = set()
    left: dict[str, str] = {}
    problems = []
    sizes = _sizes(model)
    for node in reversed(nodes):
        inside = bool(leads_on.intersection(node.output))
        heavy = node.op_type in HEAVY
        if heavy or inside:
            leads_on.update(node.input)
        limits = _uneven.TO_FLOAT
        if whole:
            limits = _uneven.INSIDE if inside else _uneven.TO_REFUSE
        around = _uneven.Around(node.input, node.output, node.op_type == "Concat", heavy)
        why = _uneven.why(around, seen, sizes, limits)
        if not why:
            continue
        if whole:
            problems.append(Problem(*why, field=place(node)))
        left[node.name] = why[0]
    if problems:
        raise ModelError("int8 would lose values, and this target has nothing else", problems[::-1])
    left |= _feeding(model, nodes, left)
    return [node for node in nodes if node.name not in left], dict(sorted(left.items()))


def _feeding(
    model: ModelProto, nodes: Sequence[NodeProto], left: Mapping[str, str]
) -> dict[str, str]:
    """The nodes between heavy ones and those that stay in floating point, and why they stay too.

    1 - mask times -1e9 is 0 only where the mask is 1 to the last bit, which no scale promises.
    """
    chosen = {node.name for node in nodes}
    feeds: dict[str, str] = {}
    found: dict[str, str] = {}
    for node in reversed(model.graph.node):
        reader = next((feeds[name] for name in node.output if name in feeds), "")
        if node.name in left:
            reader = node.name
        elif not reader or node.op_type in HEAVY:
            continue
        elif node.name in chosen:
            found[node.name] = f"feeds '{reader}', which stays in floating point"
        feeds.update((name, feeds.get(name, reader)) for name in node.input)
    return found


def place(node: NodeProto) -> str:
    """A node in words."""
    return f"{node.op_type} node '{node.name}'"


def _heavy(node: NodeProto, stored: set[str]) -> bool:
    """Whether int8 makes this node faster; convolutions with computed weights have no kernel."""
    return node.op_type == "MatMul" or (
        node.op_type in HEAVY and len(node.input) > 1 and node.input[1] in stored
    )


def _excluded(nodes: Sequence[NodeProto], patterns: Sequence[str]) -> set[str]:
    names = [node.name for node in nodes]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            some = ", ".join(n.name for n in nodes if n.op_type in HEAVY)[:200]
            raise ModelError(
                f"quantization.exclude: '{pattern}' matches no node; heavy nodes are {some}"
            )
    return {name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)}


def _sizes(model: ModelProto) -> dict[str, float]:
    """The largest magnitude of every stored tensor that is read by other than heavy nodes."""
    from onnx import TensorProto, numpy_helper

    read = {n for node in model.graph.node if node.op_type not in HEAVY for n in node.input}
    return {
        tensor.name: _uneven.largest(numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if tensor.name in read and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    }
