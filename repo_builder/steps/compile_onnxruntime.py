"""`compile-onnxruntime`: the ONNX file that ONNX Runtime serves on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.introspect import walk
from repo_builder.spec.types import Precision
from repo_builder.steps import _onnx
from repo_builder.steps._failures import explained

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Params:
    """`fp16` converts weights and operators, not the interface; `int8` models come as QDQ."""

    precision: Precision = "fp32"


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx`, quantized already for `int8`."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """Nodes of the graph, how many of each operator, and the shapes that it gives its outputs.

    ONNX Runtime may find a dimension fixed that was open before.
    """

    nodes: int
    operators: dict[str, int]
    outputs: dict[str, tuple[int | str, ...]]


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write a portable `model.onnx`: no operator that only ONNX Runtime knows is added.

    ModelError where the runtime refuses the model, StepError where the conversion fails.
    """
    source = _onnx.load_graph(inputs.model)
    with explained("ONNX Runtime cannot optimize the model", "check it with onnx.checker"):
        model = _onnx.optimized(inputs.model)
    if params.precision == "fp16":
        with explained("conversion to fp16 failed", "write `optimize: {precision: fp32}`"):
            model = _to_fp16(model)
    _onnx.unname_dimensions(source, model)
    _onnx.require_same_interface(source, model, "ONNX Runtime", "use `precision: fp32`")
    operators: dict[str, int] = {}
    for node in walk.nodes(model):
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    facts = Facts(len(model.graph.node), dict(sorted(operators.items())), _onnx.outputs(model))
    _onnx.save(model, out)
    return facts


def _to_fp16(model: ModelProto) -> ModelProto:
    """The model in fp16, its inputs and outputs as they were.

    The converter leaves nodes unsorted and types of before in value_info: sorted and cleared.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted = ONNXModel(convert_float_to_float16(model, keep_io_types=True))
    del converted.model.graph.value_info[:]
    converted.topological_sort()
    result: ModelProto = converted.model
    return result
