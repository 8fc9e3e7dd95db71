"""Collects tensors, buffers and operators, and packs them by TFLite's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import MissingExtra

Array = npt.NDArray[Any]

# The first version of each operator that takes int8 (tensorflow/lite/tools/versioning/
# op_version.cc); a runtime too old for it refuses the model instead of misreading it.
_VERSIONS = {
    "RESHAPE": 1,
    "HARD_SWISH": 1,
    "PRELU": 1,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "TRANSPOSE_CONV": 3,
    "FULLY_CONNECTED": 4,
}


def schema() -> Any:
    """The generated schema module, or MissingExtra."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise MissingExtra("tflite", "writing TFLite") from None
    return schema_py_generated


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point), along `axis` where there are several scales."""

    scale: Array
    zero_point: int = 0
    axis: int = 0


class Builder:
    """One model with one subgraph. Equal constants share a buffer; tensors keep their order."""

    def __init__(self) -> None:
        self.schema = schema()
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._buffers: list[bytes] = [b""]
        self._buffer_of: dict[bytes, int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike = np.int8,
        quantization: Quantization | None = None,
    ) -> int:
        """Add a tensor that an operator or the caller fills; returns its index."""
        s = self.schema
        kinds = {
            np.dtype(np.int8): s.TensorType.INT8,
            np.dtype(np.int32): s.TensorType.INT32,
            np.dtype(np.float32): s.TensorType.FLOAT32,
        }
        tensor = s.TensorT(name=name, shape=list(shape), type=kinds[np.dtype(dtype)], hasRank=True)
        if quantization is not None:
            scales = [float(value) for value in quantization.scale.reshape(-1)]
            tensor.quantization = s.QuantizationParametersT(
                scale=scales,
                zeroPoint=[quantization.zero_point] * len(scales),
                quantizedDimension=quantization.axis,
            )
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: Array, quantization: Quantization | None = None) -> int:
        """Add a tensor with a fixed content; returns its index."""
        index = self.tensor(name, values.shape, values.dtype, quantization)
        content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        if content not in self._buffer_of:
            self._buffers.append(content)
            self._buffer_of[content] = len(self._buffers) - 1
        self.tensors[index].buffer = self._buffer_of[content]
        return index

    def operator(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        version: int = 0,
        **fields: Any,
    ) -> None:
        """Add an operator; `options` is the schema's table (`Conv2DOptions`), `fields` fill it."""
        s = self.schema
        key = (code, version or _VERSIONS.get(code, 2))
        operator = s.OperatorT(
            opcodeIndex=self._codes.setdefault(key, len(self._codes)),
            inputs=list(inputs),
            outputs=list(outputs),
        )
        if options:
            operator.builtinOptionsType = getattr(s.BuiltinOptions, options)
            operator.builtinOptions = getattr(s, options + "T")(**fields)
        self.operators.append(operator)

    @property
    def codes(self) -> tuple[str, ...]:
        """The operators in use by their names in the schema (`CONV_2D`), sorted."""
        return tuple(sorted({code for code, _ in self._codes}))

    def pack(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The finished file; the same calls give the same bytes."""
        import flatbuffers

        s = self.schema
        codes = []
        for code, version in self._codes:
            number = getattr(s.BuiltinOperator, code)
            # Codes above 126 live in the second field only; the first then holds a placeholder.
            codes.append(
                s.OperatorCodeT(
                    deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=version
                )
            )
        subgraph = s.SubGraphT(
            name="main",
            tensors=self.tensors,
            operators=self.operators,
            inputs=list(inputs),
            outputs=list(outputs),
        )
        model = s.ModelT(
            version=3,
            description=description,
            operatorCodes=codes,
            subgraphs=[subgraph],
            buffers=[
                s.BufferT(data=np.frombuffer(data, np.uint8) if data else None)
                for data in self._buffers
            ],
        )
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())
