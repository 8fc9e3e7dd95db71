"""The graph rewritten so that it can be quantized, each rewrite proven by running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError
from repo_builder.introspect import walk
from repo_builder.steps import _canonical, _onnx, _same
from repo_builder.steps._data import Samples
from repo_builder.steps._failures import explained

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 13
"""The first opset whose QuantizeLinear takes a scale for each channel."""

Rewrite = Callable[["ModelProto"], None]


def prepare(
    model: ModelProto, expected: _same.Answers, samples: Samples
) -> tuple[ModelProto, dict[str, str]]:
    """The model with opset >= 13, named nodes, in operators that have int8 forms.

    `expected` are the source's answers to `samples`. A rewrite that changes them is left out; the
    second result says which and how. ModelError: raising the opset changes them.
    """
    raised = _raised(model, expected, samples)
    _canonical.node_names(raised)
    whole = _rewritten(raised, *REWRITES.values())
    if not _same.difference(expected, _same.answers_of(whole, samples)):
        return whole, {}
    left_out = {}
    for what, rewrite in REWRITES.items():
        tried = _rewritten(raised, rewrite)
        with explained(f"'{what}' breaks the model", "please report it"):
            why = _same.difference(expected, _same.answers_of(tried, samples))
        if why:
            left_out[what] = why
        else:
            raised = tried
    return raised, left_out


def _raised(model: ModelProto, expected: _same.Answers, samples: Samples) -> ModelProto:
    written = walk.opset(model)
    if written >= OPSET:
        return model
    what = f"the model cannot be raised from opset {written} to {OPSET}"
    fix = f"export it with opset >= {OPSET}"
    with explained(what, fix, ModelError):
        raised = _onnx.raised(model, OPSET, "optimize: {precision: fp32}")
        why = _same.difference(expected, _same.answers_of(raised, samples))
    if why:
        raise ModelError(f"{what}: output {why}; {fix}")
    return raised


def _rewritten(model: ModelProto, *rewrites: Rewrite) -> ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for rewrite in rewrites:
        rewrite(copy)
        _canonical.node_names(copy)
    return copy


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


REWRITES: Mapping[str, Rewrite] = {
    "weights of 16 bits as fp32": _canonical.stored_in_fp32,
    "means over space as GlobalAveragePool": _pool_means,
    "Sum of two as Add": _canonical.sums,
    "Gemm without alpha, beta and transA": _canonical.plain_products,
    "computed biases as Add": _canonical.plain_biases,
    "names of tensors": _canonical.tensor_names,
}
"""What is done to the graph before it is quantized, in this order."""
