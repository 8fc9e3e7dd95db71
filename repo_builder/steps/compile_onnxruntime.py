"""`compile-onnxruntime`: the ONNX file that ONNX Runtime serves on any machine."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from repo_builder.base.errors import ModelError
from repo_builder.introspect import quantized, walk
from repo_builder.spec.types import Precision
from repo_builder.steps import _already, _bodies, _fp16, _onnx, _rounded
from repo_builder.steps._failures import explained

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from onnxruntime.quantization.onnx_model import ONNXModel


@dataclass(frozen=True)
class Params:
    """`fp16` converts weights and operators, not the interface; `int8` models come as QDQ.

    `weight_bits` 7: int8 weights of a model that came quantized may not saturate, see `quantize`.
    `weights_only`: it may hold weights in integers for products in floating point, which optimizing
    would unpack: from `quantize-weights`, or of mixed precision.
    """

    precision: Precision = "fp32"
    weight_bits: Literal[7, 8] = 8
    weights_only: bool = False


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx`, quantized already for `int8`.

    `ranges`: what `fp16-ranges` wrote, for runtimes that keep fp32 where the model has it.
    """

    model: Path
    ranges: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Nodes of the graph, how many of each operator, and the shapes that it gives its outputs.

    ONNX Runtime may find a dimension fixed that was open before. `kept`: nodes left in fp32 in
    fp16.
    """

    nodes: int
    operators: dict[str, int]
    outputs: dict[str, tuple[int | str, ...]]
    kept: tuple[str, ...] = ()


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write a portable `model.onnx`: no operator that only ONNX Runtime knows is added.

    ModelError where the runtime refuses the model, StepError where the conversion fails.
    """
    source = _onnx.load_graph(inputs.model)
    already = quantized.find(source) if params.precision != "int8" else None
    if already and params.precision == "fp16":
        _already.refuse(already)
    if params.weights_only or (params.precision == "fp16" and _holds_fp16(source)):
        # ONNX Runtime has few kernels for fp16 and would write casts to fp32 into it.
        model = _onnx.load(inputs.model)
    else:
        with explained("ONNX Runtime cannot optimize the model", "check it with onnx.checker"):
            model = _onnx.optimized(inputs.model)
    if already and params.weight_bits == 7:
        _already.shift_weights(model)
    kept: list[str] = []
    if params.precision == "fp16":
        with explained("conversion to fp16 failed", _fp16.WAY_OUT):
            _bodies.own_names(model)
            kept = _named(_rounded.in_fp32(model, _fp16.kept(inputs.ranges)))
            _require_convertible(model)
            model = _to_fp16(model, kept)
    _onnx.unname_dimensions(source, model)
    _onnx.require_same_interface(source, model, "ONNX Runtime", "use `precision: fp32`")
    operators: dict[str, int] = {}
    for node in walk.nodes(model):
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    outputs = _onnx.outputs(model)
    facts = Facts(len(model.graph.node), dict(sorted(operators.items())), outputs, tuple(kept))
    _onnx.save(model, out)
    return facts


def _holds_fp16(model: ModelProto) -> bool:
    """Whether the model takes or stores fp16 already."""
    from onnx import TensorProto

    taken = (value.type.tensor_type.elem_type for value in model.graph.input)
    stored = (tensor.data_type for tensor in walk.tensors(model))
    return TensorProto.FLOAT16 in {*taken, *stored}


def _require_convertible(model: ModelProto) -> None:
    """ModelError where a body has a node that the converter leaves in fp32.

    It puts the casts around such nodes into the main graph only.
    """
    from onnxruntime.transformers.float16 import ALWAYS_FLOAT_INPUTS, DEFAULT_OP_BLOCK_LIST

    for holder, body in _bodies.within(model.graph):
        for node in body.node:
            if node.op_type in {*DEFAULT_OP_BLOCK_LIST, *ALWAYS_FLOAT_INPUTS}:
                raise ModelError(
                    f"{node.op_type} in the body of {holder.op_type} node "
                    f"'{holder.name or holder.output[0]}' has no fp16 form in ONNX Runtime's "
                    f"converter; {_fp16.WAY_OUT}"
                )


def _named(nodes: list[NodeProto]) -> list[str]:
    """The names of `nodes`, given to those that have none."""
    for node in nodes:
        node.name = node.name or f"makes {node.output[0]}"
    return [node.name for node in nodes]


def _to_fp16(model: ModelProto, kept: list[str]) -> ModelProto:
    """The model in fp16 but for the nodes `kept`, its inputs and outputs as they were.

    The converter leaves nodes unsorted and types of before in value_info: sorted and cleared.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    before = {name for node in model.graph.node for name in node.output}
    converted = ONNXModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=kept))
    del converted.model.graph.value_info[:]
    for _, body in _bodies.within(converted.model.graph):
        del body.value_info[:]
    if kept:
        _join_casts(converted, before)
    converted.topological_sort()
    result: ModelProto = converted.model
    return result


def _join_casts(converted: ONNXModel, before: Set[str]) -> None:
    """Take out casts from fp32 to fp16 and back, which the converter puts between kept nodes.

    `before` are the tensors that nodes made before: what it adds is fp32 that a kept node makes.
    """
    from onnx import TensorProto

    wide = {
        value.name
        for value in converted.model.graph.input
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    kinds = {node.output[0]: node for node in converted.model.graph.node if node.op_type == "Cast"}

    def to(node: NodeProto) -> int:
        return next(int(a.i) for a in node.attribute if a.name == "to")

    for name, back in kinds.items():
        there = kinds.get(back.input[0])
        if there is None or (to(there), to(back)) != (TensorProto.FLOAT16, TensorProto.FLOAT):
            continue
        if there.input[0] in before - wide:
            continue
        if name not in {value.name for value in converted.model.graph.output}:
            converted.replace_input_of_all_nodes(name, there.input[0])
        elif there.input[0] not in before | wide:
            _make_directly(converted, name, back, there.input[0])
    _drop_unread(converted, set(kinds))


def _make_directly(converted: ONNXModel, name: str, cast: NodeProto, source: str) -> None:
    """Let the node that makes `source` make the output `name`, which `cast` makes now."""
    converted.model.graph.node.remove(cast)
    for node in converted.model.graph.node:
        node.input[:] = [name if given == source else given for given in node.input]
        node.output[:] = [name if made == source else made for made in node.output]


def _drop_unread(converted: ONNXModel, names: set[str]) -> None:
    """Remove the nodes that make one of `names` which nothing reads."""
    graph = converted.model.graph
    while True:
        read = {name for node in graph.node for name in node.input}
        read |= {value.name for value in graph.output}
        unread = [n for n in graph.node if n.output[0] in names and n.output[0] not in read]
        if not unread:
            return
        for node in unread:
            graph.node.remove(node)
