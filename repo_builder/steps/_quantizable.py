"""Which nodes of an ONNX graph to quantize, and the graph rewritten so that they can be."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError

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

OPSET = 13
"""The first opset whose QuantizeLinear takes a scale for each channel."""


def prepare(model: ModelProto) -> ModelProto:
    """The model with opset >= 13 and a name for every node, in operators that have int8 forms."""
    from repo_builder.introspect import walk
    from repo_builder.steps import _onnx

    if walk.opset(model) < OPSET:
        model = _onnx.raised(model, OPSET)
    _pool_means(model)
    for node in model.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"
    taken = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{number}"
            node.name = name if name not in taken else f"{name}_unnamed"
    return model


def chosen(nodes: Sequence[NodeProto], exclude: Iterable[str], whole: bool) -> list[NodeProto]:
    """The nodes to quantize: heavy ones, those between, and an activation right behind.

    What follows the last heavy node stays in floating point: it costs little, and a detector
    decodes boxes there. With `whole` all nodes are chosen, for toolchains without floating point.
    ModelError: a glob of `exclude` matches no node.
    """
    patterns = list(exclude)
    names = [node.name for node in nodes]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            some = ", ".join(n.name for n in nodes if n.op_type in HEAVY)[:200]
            raise ModelError(
                f"quantization.exclude: '{pattern}' matches no node; heavy nodes are {some}"
            )
    leads_on: set[str] = set()  # tensors that a heavy node uses, near or far
    for node in reversed(nodes):
        if node.op_type in HEAVY or any(name in leads_on for name in node.output):
            leads_on.update(node.input)
    from_heavy = {name for node in nodes if node.op_type in HEAVY for name in node.output}
    return [
        node
        for node in nodes
        if not any(fnmatch.fnmatchcase(node.name, pattern) for pattern in patterns)
        and (
            whole
            or node.op_type in HEAVY
            or (node.op_type in BETWEEN and any(name in leads_on for name in node.output))
            or (node.op_type in ("Relu", "Clip") and node.input[0] in from_heavy)
        )
    ]


def _pool_means(model: ModelProto) -> None:
    """Write ReduceMean over all of space as GlobalAveragePool, which has an int8 form.

    Exporters emit either for the same layer. [N, C, ...] stays or becomes [N, C], as it was.
    """
    from onnx import helper, numpy_helper, shape_inference

    graph = model.graph
    if not any(node.op_type == "ReduceMean" for node in graph.node):
        return
    known = shape_inference.infer_shapes(_without_weights(model)).graph
    values = [*known.value_info, *known.input, *known.output]
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        axes = attributes.get("axes")
        if len(node.input) > 1 and node.input[1] in stored:
            axes = numpy_helper.to_array(stored[node.input[1]]).tolist()
        rank = ranks.get(node.input[0], 0) if node.input else 0
        space = list(range(2, rank))
        if (
            node.op_type != "ReduceMean"
            or not space
            or not axes
            or sorted(axis % rank for axis in axes) != space
        ):
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        pooled = target if attributes.get("keepdims", 1) else f"{target}_pooled"
        nodes.append(helper.make_node("GlobalAveragePool", [source], [pooled], name=node.name))
        if pooled != target:
            name = f"{node.name}_flat" if node.name else ""
            nodes.append(helper.make_node("Flatten", [pooled], [target], name=name, axis=1))
    del graph.node[:]
    graph.node.extend(nodes)


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy for shape inference whose large weights are inputs, so that it stays small."""
    import onnx

    from repo_builder.steps import _onnx

    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.graph.node.extend(model.graph.node)
    light.graph.name = model.graph.name
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if _onnx.elements(tensor) <= 1024:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light
