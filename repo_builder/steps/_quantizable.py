"""Which nodes of an ONNX graph to quantize, and which of them int8 would ruin."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.base.errors import ModelError, Problem, StepError
from repo_builder.steps import _canonical
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

HUGE = 1e6
"""Values beyond are no activations but masks or sizes; their scales overflow in products."""


@dataclass(frozen=True)
class Limits:
    """What int8 can bear: `gap` as in `Histogram`; `uneven` is the largest factor between inputs of
    a Concat, which leaves the smaller one 256 / `uneven` levels.
    """

    gap: int
    uneven: float


TO_FLOAT = Limits(gap=1, uneven=16)
"""Beyond, a node stays in floating point, which costs time only."""

TO_REFUSE = Limits(gap=3, uneven=16)
"""Beyond, a model is refused where nothing can stay in floating point."""

INSIDE = Limits(gap=3, uneven=64)
"""As `TO_REFUSE`, for a node that other weights follow: what they make of it is judged."""


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

    `seen`: what the tensors around them were on calibration data. StepError: a heavy node works
    on infinite values. ModelError: int8 would ruin a node that cannot stay in floating point.
    """
    leads_on: set[str] = set()
    left: dict[str, str] = {}
    problems = []
    sizes = _sizes(model)
    for node in reversed(nodes):
        limits = TO_FLOAT
        if whole:
            limits = INSIDE if leads_on.intersection(node.output) else TO_REFUSE
        if whole and (node.op_type in HEAVY or leads_on.intersection(node.output)):
            leads_on.update(node.input)
        why = _ruined(node, seen, sizes, limits)
        if not why:
            continue
        if whole:
            problems.append(Problem(*why, field=place(node)))
        elif node.op_type not in HEAVY:
            left[node.name] = why[0]
        elif any(seen[name].infinite for name in _around(node) if name in seen):
            raise StepError(
                f"{place(node)} {why[0]}; exclude it "
                f"(optimize: {{quantization: {{exclude: ['{node.name}']}}}})"
            )
        else:
            left[node.name] = why[0]
    if problems:
        raise ModelError("int8 would lose values, and this target has nothing else", problems[::-1])
    return [node for node in nodes if node.name not in left], dict(sorted(left.items()))


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


def _around(node: NodeProto) -> Iterator[str]:
    yield from (name for name in (*node.input, *node.output) if name)


def _ruined(
    node: NodeProto, seen: Mapping[str, Histogram], sizes: Mapping[str, float], limits: Limits
) -> tuple[str, str] | None:
    """What int8 would do to `node`, and a way out; None where it does no harm."""
    around = [(name, seen[name]) for name in _around(node) if name in seen]
    for name, values in around:
        if values.infinite:
            return f"reads or makes infinite values ('{name}')", "mask with -100, not -inf"
    for name, values in around:
        if values.largest > HUGE or sizes.get(name, 0.0) > HUGE:
            return f"works on values up to {values.largest:.3g} ('{name}')", "mask with -100"
    for name in node.input:
        if sizes.get(name, 0.0) > HUGE:
            return f"works on values up to {sizes[name]:.3g} ('{name}')", "mask with -100"
    if node.op_type in HEAVY:
        return None
    for name, values in around:
        if values.gap > limits.gap:
            what = f"joins values up to {values.largest:.3g} with far smaller ones in '{name}'"
            return what, "mask with a value near the others, or outside the model"
    if node.op_type == "Concat":
        magnitudes = {
            name: seen[name].largest if name in seen else sizes.get(name, 0.0)
            for name in node.input
        }
        most = max(magnitudes, key=lambda name: magnitudes[name])
        least = min(magnitudes, key=lambda name: magnitudes[name] or np.inf)
        if 0 < magnitudes[least] * limits.uneven < magnitudes[most]:
            levels = 256 * magnitudes[least] / magnitudes[most]
            what = (
                f"puts '{most}' (up to {magnitudes[most]:.3g}) and '{least}' (up to "
                f"{magnitudes[least]:.3g}) on one scale, which leaves the smaller {levels:.1f} of "
                "256 levels"
            )
            return what, "end the model before it: make its inputs outputs of the model"
    return None


def _sizes(model: ModelProto) -> dict[str, float]:
    """The largest magnitude of every stored tensor that is read by other than heavy nodes."""
    from onnx import TensorProto, numpy_helper

    read = {n for node in model.graph.node if node.op_type not in HEAVY for n in node.input}
    return {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
        for tensor in model.graph.initializer
        if tensor.name in read and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    }
