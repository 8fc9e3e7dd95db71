"""What an ONNX file declares of its inputs and outputs: read, not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repo_builder.base.artifact import Interface, TensorType
from repo_builder.introspect.graph import TRITON_TYPES


def interface(path: Path) -> Interface | None:
    """The interface that the file declares; None where it cannot be parsed (`import` tells why).

    Inputs with an initializer are constants and are left out, as are those that are no tensors.
    """
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        return None
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    return Interface(_ports(inputs), _ports(model.graph.output))


def _ports(values: Any) -> dict[str, TensorType]:
    return {
        value.name: TensorType(TRITON_TYPES[kind.elem_type], _shape(kind))
        for value in values
        if (kind := value.type.tensor_type).elem_type in TRITON_TYPES
    }


def _shape(kind: Any) -> tuple[int | str, ...] | None:
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value or dim.dim_param for dim in kind.shape.dim)
