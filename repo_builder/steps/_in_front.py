"""Operators put in front of a net, which then takes something else by the same name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError
from repo_builder.steps._graph import Graph

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto


def refuse_names(model: ModelProto, prefix: str, taken: str) -> None:
    """ModelError where the net has names of ours, or gives its input `taken` out again."""
    used = {name for node in model.graph.node for name in (node.name, *node.output)}
    if any(name.startswith(prefix) for name in used):
        raise ModelError(f"the model has names that begin with {prefix}; export it with others")
    if taken in {value.name for value in model.graph.output}:
        raise ModelError(f"the model gives its input '{taken}' out again; cut that output")


def put(
    model: ModelProto,
    taken: ValueInfoProto,
    front: Graph,
    last: str,
    element: int,
    sizes: Sequence[int | str],
) -> None:
    """Let all that reads the input `taken` read `last`, the last output of `front`.

    The input becomes of ONNX's type `element`, [its first dimension, *sizes].
    """
    import onnx

    _rename(model.graph, taken.name, last)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*front.nodes, *rest])
    model.graph.initializer.extend(front.constants)
    kind = taken.type.tensor_type
    kind.elem_type = element
    rows = onnx.TensorShapeProto.Dimension()
    rows.CopyFrom(kind.shape.dim[0])
    shape = onnx.TensorShapeProto(dim=[rows])
    for size in sizes:
        named = {"dim_param": size} if isinstance(size, str) else {"dim_value": size}
        shape.dim.append(onnx.TensorShapeProto.Dimension(**named))
    kind.shape.CopyFrom(shape)


def _rename(graph: GraphProto, old: str, new: str) -> None:
    """Let nodes read `new`, also those of inner graphs that do not call something else `old`."""
    made = {name for node in graph.node for name in node.output}
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                given = {v.name for v in inner.input} | {v.name for v in inner.initializer}
                if old not in given:
                    _rename(inner, old, new)
    if old in made:  # an inner graph's own tensor: nothing outside can have its name
        raise ModelError(f"an inner graph of the model makes a tensor '{old}' too; rename it")
    for value in graph.output:
        if value.name == old:
            value.name = new
