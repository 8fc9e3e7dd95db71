"""All of an ONNX model's nodes and stored tensors, wherever they lie in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operator set, 0 where the model does not use it."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """The main graph, the functions and all subgraphs."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting.extend(bodies(node))


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The bodies of an If, Loop or Scan; none of any other node."""
    return [
        body
        for attribute in node.attribute
        for body in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of every graph and function."""
    for graph in graphs(model):
        yield from graph.node


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers, and those in attributes."""
    for graph in graphs(model):
        yield from getattr(graph, "initializer", ())  # a function has none
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
