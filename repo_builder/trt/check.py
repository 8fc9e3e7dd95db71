"""Whether an ONNX model is one that TensorRT can take in the precision asked for; no GPU needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base.errors import Problem
from repo_builder.introspect import declared, walk
from repo_builder.targets import support

if TYPE_CHECKING:
    import onnx

_QDQ = ("QuantizeLinear", "DequantizeLinear")


def problems(model: onnx.ModelProto, precision: str, *, dla: bool = False) -> list[Problem]:
    """Everything that TensorRT would refuse or silently not do; empty where all is well."""
    from onnx import TensorProto, numpy_helper

    found = support.of("tensorrt").problems(declared.contents_of(model))
    refused: dict[str, list[onnx.NodeProto]] = {}
    types = {tensor.data_type for tensor in model.graph.initializer}
    arrays = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type in (TensorProto.INT8, TensorProto.UINT8)
    }
    signed = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type in (TensorProto.INT8, TensorProto.INT32)
    }
    pairs = 0
    for node in model.graph.node:
        if node.op_type in _QDQ:
            pairs += 1
            if why := _asymmetric(node, arrays, signed):
                refused.setdefault(why, []).append(node)
    for why, nodes in refused.items():
        first = nodes[0]
        others = f" and {len(nodes) - 1} other nodes" if len(nodes) > 1 else ""
        place = f"{first.op_type} node '{first.name or first.output[0]}'{others}"
        found.append(Problem(why, "quantize with scheme s8s8", field=place))
    if precision == "int8" and not pairs:
        found.append(Problem("asked for int8, but nothing is quantized", "quantize it before"))
    if dla and TensorProto.FLOAT in types and not _has_fp16(model):
        what = "DLA computes in fp16 only, and all of the model is in fp32"
        found.append(Problem(what, "build without dla_core"))
    elif dla and precision != "fp16":
        what = f"DLA in {precision}: it takes no explicit quantization and no fp32"
        found.append(Problem(what, "ask for fp16, or build without dla_core"))
    return found


def _has_fp16(model: onnx.ModelProto) -> bool:
    """Whether anything in the model is fp16: what it stores, takes, or casts to."""
    from onnx import TensorProto

    half = TensorProto.FLOAT16
    casts = (n for n in walk.nodes(model) if n.op_type == "Cast")
    return (
        any(tensor.data_type == half for tensor in walk.tensors(model))
        or any(value.type.tensor_type.elem_type == half for value in model.graph.input)
        or any(a.name == "to" and a.i == half for node in casts for a in node.attribute)
    )


def _asymmetric(
    node: onnx.NodeProto, arrays: Mapping[str, np.ndarray[Any, Any]], signed: set[str]
) -> str:
    """Why TensorRT refuses this Q or DQ node; "" where it does not."""
    if len(node.input) < 3:
        if node.op_type == "DequantizeLinear" and node.input[0] in signed:
            return ""
        return "no zero point means uint8, TensorRT takes int8"
    zero_point = arrays.get(node.input[2])
    if zero_point is None:
        return ""
    if zero_point.dtype == np.uint8:
        return "uint8, TensorRT takes int8"
    return "its zero point is not 0" if np.any(zero_point) else ""
