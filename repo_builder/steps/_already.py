"""Models that come quantized: passed on with their own scales, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from repo_builder.base.errors import ModelError
from repo_builder.introspect.quantized import Quantized
from repo_builder.steps import _canonical
from repo_builder.targets.types import Scheme

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

SOURCE = "give its floating-point source"


def require(already: Quantized, scheme: Scheme, whole: bool) -> None:
    """ModelError where a toolchain of `scheme` cannot take the model as it is.

    Symmetric int8 is for TensorRT; `whole` is for TFLite.
    """
    runtime = "TFLite" if whole else "TensorRT" if scheme == "s8s8" else "ONNX Runtime"
    if runtime == "ONNX Runtime":
        return
    if already.form != "QDQ":
        raise ModelError(
            f"the model {already.what}, {runtime} takes QDQ with scales for activations only; "
            f"export it so, or {SOURCE}"
        )
    if runtime == "TensorRT" and already.asymmetric:
        raise ModelError(
            f"the model {already.what}, and {already.asymmetric}, where TensorRT takes int8 with "
            f"zero points of 0 only; quantize it to symmetric int8, or {SOURCE}"
        )


def refuse(already: Quantized) -> NoReturn:
    """ModelError: TensorRT was asked for another precision than that of the model's own scales."""
    require(already, "s8s8", whole=False)
    raise ModelError(
        f"the model {already.what}; write `optimize: {{precision: int8}}`, which keeps its scales"
    )


def require_whole(model: ModelProto, already: Quantized) -> None:
    """ModelError where a tensor between two operators is in floating point."""
    from repo_builder.tflite import OPS, qdq

    try:
        qdq.read(model, OPS)
    except ModelError as failure:
        reasons = [": ".join(filter(None, (p.field, p.what))) for p in failure.problems]
        reasons = reasons or [failure.message]
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise ModelError(
            f"the model {already.what}, but not all of it as TFLite needs it ({reasons[0]}{more}); "
            f"quantize every operator, or {SOURCE}"
        ) from failure


def shift_weights(model: ModelProto) -> None:
    """Store int8 weights as uint8 with a zero point of 128: the same numbers.

    Without VNNI, ONNX Runtime adds products of unsigned and signed bytes in 16 bits, which
    overflow; those of unsigned bytes it does not.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in list(model.graph.node):
        if node.op_type != "DequantizeLinear":
            continue
        quantizer = makers.get(node.input[0])
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            weights = stored.get(quantizer.input[0])  # rounded when the model is loaded
        else:
            quantizer, weights = None, stored.get(node.input[0])
        if weights is None or len(weights.dims) < 2 or not _is_int8(node, quantizer, stored):
            continue
        if quantizer is None:
            node.input[0] = _shifted(model, stored, weights)
        zero = _zero(model, stored, node)
        for place in (node, quantizer):
            if place is not None:
                place.input[:] = [*place.input[:2], zero]
    _canonical.forget_unused(model)


def _is_int8(
    node: NodeProto, quantizer: NodeProto | None, stored: Mapping[str, TensorProto]
) -> bool:
    """Whether a pair's or a DequantizeLinear's values are int8 with a zero point of 0."""
    from onnx import TensorProto, numpy_helper

    zero = stored.get(node.input[2]) if len(node.input) > 2 else None
    if zero is not None:
        is_int8 = zero.data_type == TensorProto.INT8
        return is_int8 and not np.any(numpy_helper.to_array(zero))
    return quantizer is None and stored[node.input[0]].data_type == TensorProto.INT8


def _shifted(model: ModelProto, stored: dict[str, TensorProto], tensor: TensorProto) -> str:
    """A copy of an int8 tensor as uint8, made once."""
    from onnx import numpy_helper

    name = f"{tensor.name}_as_uint8"
    if name not in stored:
        values = numpy_helper.to_array(tensor).astype(np.int16) + 128
        stored[name] = numpy_helper.from_array(values.astype(np.uint8), name)
        model.graph.initializer.append(stored[name])
    return name


def _zero(model: ModelProto, stored: dict[str, TensorProto], node: NodeProto) -> str:
    """A zero point of 128 for each scale of `node`."""
    from onnx import numpy_helper

    shape = tuple(stored[node.input[1]].dims) if node.input[1] in stored else ()
    name = f"zero_of_uint8_{'x'.join(map(str, shape))}"
    if name not in stored:
        stored[name] = numpy_helper.from_array(np.full(shape, 128, np.uint8), name)
        model.graph.initializer.append(stored[name])
    return name
