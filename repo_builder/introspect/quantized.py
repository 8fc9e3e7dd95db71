"""Whether a model is quantized already, in which form, and which toolchains can take its scales."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from repo_builder.introspect import declared, walk

if TYPE_CHECKING:
    import onnx

Form = Literal["QDQ", "QOperator", "dynamic", "weights"]

_DYNAMIC = frozenset(
    {
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulIntegerToFloat",
    }
)
_OPERATORS = frozenset({"ConvInteger", "MatMulInteger", "MatMulNBits", "QGemm", "QAttention"})
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Quantized:
    """`form`: pairs of QuantizeLinear and DequantizeLinear around operators (`QDQ`), operators on
    integers (`QOperator`), scales found while it runs (`dynamic`), or stored tensors only
    (`weights`).

    `operators` counts those on integers, by type. `asymmetric` says why a toolchain that takes
    symmetric int8 only refuses it: of the first such node; "" where there is none.
    """

    form: Form
    operators: tuple[tuple[str, int], ...]
    asymmetric: str

    @property
    def what(self) -> str:
        """The model in words: `is quantized already (QOperator: 2 QLinearConv)`."""
        counted = ", ".join(f"{count} {kind}" for kind, count in self.operators)
        return f"is quantized already ({self.form}{': ' + counted if counted else ''})"


def find(model: onnx.ModelProto) -> Quantized | None:
    """How `model` is quantized; None where it is not."""
    kinds = Counter(node.op_type for node in walk.nodes(model))
    on_integers = {
        kind: count
        for kind, count in sorted(kinds.items())
        if kind in _OPERATORS | _DYNAMIC or kind.startswith("QLinear")
    }
    if not on_integers and not kinds["DequantizeLinear"]:
        return None
    form: Form = "QDQ" if _activations(model) else "weights"
    if on_integers:
        form = "dynamic" if _DYNAMIC & on_integers.keys() else "QOperator"
    return Quantized(form, tuple(on_integers.items()), _asymmetric(model))


def in_file(path: Path) -> bool:
    """Whether the model in an ONNX file is quantized; False where it cannot be parsed."""
    model = declared.parsed(path)
    return model is not None and find(model) is not None


def _activations(model: onnx.ModelProto) -> bool:
    """Whether a tensor that is computed or given is quantized: more than weights are."""
    stored = {tensor.name for graph in walk.graphs(model) for tensor in _stored(graph)}
    stored |= {n.output[0] for n in walk.nodes(model) if n.op_type == "Constant"}
    return any(
        node.op_type == "QuantizeLinear" and node.input[0] not in stored
        for node in walk.nodes(model)
    )


def _stored(graph: object) -> list[onnx.TensorProto]:
    return list(getattr(graph, "initializer", ()))  # a function has none


def _asymmetric(model: onnx.ModelProto) -> str:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    stored = {t.name: t for graph in walk.graphs(model) for t in _stored(graph)}
    for node in walk.nodes(model):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        place = f"{node.op_type} node '{node.name or node.output[0]}'"
        zero = stored.get(node.input[2]) if len(node.input) > 2 else None
        values = stored.get(node.input[0])
        held = [zero, values if node.op_type == "DequantizeLinear" else None]
        types = {tensor.data_type for tensor in held if tensor is not None}
        if node.op_type == "QuantizeLinear" and zero is None:
            types.add(TensorProto.UINT8)
        if others := types - {TensorProto.INT8, TensorProto.INT32}:  # a bias has 32 bits
            return f"{place} works on {TensorProto.DataType.Name(min(others)).lower()}"
        if zero is not None and np.any(numpy_helper.to_array(zero)):
            return f"{place} has a zero point other than 0"
    return ""
