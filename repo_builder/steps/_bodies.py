"""Bodies of If, Loop and Scan: graphs within a graph, which read tensors around them by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from repo_builder.introspect import walk
from repo_builder.steps import _canonical

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def within(graph: GraphProto) -> Iterator[tuple[NodeProto, GraphProto]]:
    """Every body inside `graph`, however deep, and the node that has it."""
    for node in graph.node:
        for body in walk.bodies(node):
            yield node, body
            yield from within(body)


def touched(graph: GraphProto) -> set[str]:
    """The tensors of `graph` that its nodes with bodies read, make, or capture."""
    found = _canonical.captured(graph)
    for node in graph.node:
        if walk.bodies(node):
            found.update(node.input, node.output)
    return found


def own_names(model: ModelProto) -> None:
    """Give what bodies define names that nothing else in `model` has.

    Bodies beside each other may use one name for two tensors, which the converter to fp16 takes
    for one.
    """
    taken = set(_defined(model.graph))
    for node in model.graph.node:
        for body in walk.bodies(node):
            _rename(body, {}, taken)


def _rename(body: GraphProto, around: Mapping[str, str], taken: set[str]) -> None:
    """Rename what `body` defines; `around`: new names of what the graphs around it define."""
    names = dict(around)
    for name in dict.fromkeys(_defined(body)):
        names[name] = _canonical.fresh(name, taken)
        taken.add(names[name])
    for tensor in body.initializer:
        tensor.name = names[tensor.name]
    for value in (*body.input, *body.output, *body.value_info):
        value.name = names.get(value.name, value.name)
    for node in body.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in walk.bodies(node):
            _rename(inner, names, taken)


def _defined(graph: GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (name for node in graph.node for name in node.output if name)
