"""A model whose every inner tensor is rounded to fp16, to see what a device of fp16 answers.

Runtimes on CPUs compute the operators of an fp16 model in fp32 and take out the casts between them,
so that nothing overflows and nothing is rounded where it would be on the device. Here each node's
output is cast to fp16 and back: kernels sum in fp32, as matrix units do, and what they hand on is
what fp16 can hold: beyond 65504 infinity, below 6e-8 nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from repo_builder.introspect import walk
from repo_builder.steps import _bodies, _canonical, _inner
from repo_builder.steps._data import Array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

LARGEST = 65504.0
"""The largest finite number of fp16."""
SMALLEST = 2.0**-24
"""The smallest number of fp16 above 0."""

_SUMMED = {
    "ReduceL2": ("Mul", "Sqrt"),
    "ReduceSumSquare": ("Mul", ""),
    "ReduceLogSum": ("", "Log"),
    "ReduceLogSumExp": ("Exp", "Log"),
}
"""Operators that devices compute as a function (Mul: a square), ReduceSum, and a function."""


_AXES_ARE_AN_INPUT = 13
"""The opset from which ReduceSum takes its axes as an input, earlier than other reductions."""


def rounded(model: ModelProto, kept: Set[str] = frozenset()) -> ModelProto:
    """A copy of `model`, inputs and outputs in fp32 as they were, rounded to fp16 inside.

    Tensors in `kept` (inputs too) stay in fp32, with the nodes that make or read them: see
    `in_fp32`. Constants beyond fp16 become its largest number and those below it its smallest, as
    the converter to fp16 does. Bodies of If, Loop and Scan are rounded too, but for what only ONNX
    Runtime's own operators make, whose types ONNX does not know.
    """
    from onnx import TensorProto

    made = taken_apart(model)
    floats = _inner.floats(made) - kept
    if any(True for _ in _bodies.within(made.graph)):
        made = _with_types(made)
    wide = {node.output[0] for node in in_fp32(made, kept)}
    read = {n for node in made.graph.node if node.output[0] not in wide for n in node.input}
    captured = _canonical.captured(made.graph)
    _round_constants(made.graph, read | captured)
    stored = {tensor.name for tensor in made.graph.initializer}
    given = {
        value.name: f"{value.name}/fp16"
        for value in made.graph.input
        if value.name not in stored | kept and value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    for _, body in _bodies.within(made.graph):
        _round_constants(body, {tensor.name for tensor in body.initializer})
        known = {
            value.name
            for value in (*body.value_info, *body.output)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        _round_outputs(body, known, [])
    casts: list[NodeProto] = []
    for name, inner in given.items():
        casts += _casts(name, inner)
    for node in made.graph.node:
        _rename_inputs(node, given)
    _round_outputs(made.graph, floats, casts)
    return made


def _with_types(model: ModelProto) -> ModelProto:
    """`model` with names of their own in bodies, and the types of the tensors in them."""
    import onnx

    _bodies.own_names(model)
    return onnx.shape_inference.infer_shapes(model)


def _round_constants(graph: GraphProto, names: Set[str]) -> None:
    """Round the stored fp32 tensors of `graph` in `names`."""
    from onnx import TensorProto, numpy_helper

    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name in names:
            half = constant(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))


def _round_outputs(graph: GraphProto, names: Set[str], first: Sequence[NodeProto]) -> None:
    """Put `first` before the nodes of `graph`, and casts behind those that make one of `names`."""
    import onnx

    nodes = [*first]
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in names:
                node.output[index] = f"{name}/fp32"
                nodes += _casts(node.output[index], name)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def in_fp32(model: ModelProto, kept: Set[str]) -> list[NodeProto]:
    """The nodes of `model` that make or read a tensor in `kept`, or a part of which does."""
    parts = {kind for pair in _SUMMED.values() for kind in pair if kind} | {"ReduceSum"}
    return [
        node
        for node in model.graph.node
        if not kept.isdisjoint(node.input)
        or not kept.isdisjoint(node.output)
        or any(f"{name}/{part}" in kept for name in node.output for part in parts)
    ]


def constant(values: Array) -> npt.NDArray[np.float16]:
    """A constant in fp16: no infinity, and no 0 that was none, as the converter to fp16 has it."""
    held = np.clip(values, -LARGEST, LARGEST)
    lost = (held != 0) & (np.abs(held) < SMALLEST)
    return np.asarray(np.where(lost, np.copysign(SMALLEST, held), held), np.float16)


def _casts(wide: str, name: str) -> list[NodeProto]:
    """`wide` -> fp16 -> `name`."""
    from onnx import TensorProto, helper

    half = f"{name}/half"
    return [
        helper.make_node("Cast", [wide], [half], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT),
    ]


def _rename_inputs(node: Any, names: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        if name in names:
            node.input[index] = names[name]
    for body in walk.bodies(node):
        for inner in body.node:
            _rename_inputs(inner, names)


def taken_apart(model: ModelProto) -> ModelProto:
    """A copy of `model` where sums that devices take part by part are parts: see `_SUMMED`."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes: list[Any] = []
    for node in made.graph.node:
        if node.op_type not in _SUMMED or node.domain not in ("", "ai.onnx"):
            nodes.append(node)
            continue
        nodes += _parts(node, made)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(kept)
    return made


def _parts(node: NodeProto, model: ModelProto) -> list[NodeProto]:
    """What `node` stands for. Its axes become a constant of `model` where ReduceSum wants one."""
    from onnx import helper, numpy_helper

    before, after = _SUMMED[node.op_type]
    out, given = node.output[0], node.input[0]
    parts: list[NodeProto] = []

    def part(kind: str, inputs: Sequence[str], output: str) -> NodeProto:
        name = f"{node.name}/{kind}" if node.name and parts else node.name
        parts.append(helper.make_node(kind, list(inputs), [output], name=name))
        return parts[-1]

    if before:
        part(before, [given, given] if before == "Mul" else [given], f"{out}/{before}")
        given = f"{out}/{before}"
    summed = f"{out}/ReduceSum" if after else out
    attributes = {attribute.name: attribute for attribute in node.attribute}
    axes = list(node.input[1:])
    if "axes" in attributes and walk.opset(model) >= _AXES_ARE_AN_INPUT:
        held = np.array(attributes.pop("axes").ints, np.int64)
        axes = [f"{out}/axes"]
        model.graph.initializer.append(numpy_helper.from_array(held, axes[0]))
    part("ReduceSum", [given, *axes], summed).attribute.extend(attributes.values())
    if after:
        part(after, [summed], out)
    return parts
