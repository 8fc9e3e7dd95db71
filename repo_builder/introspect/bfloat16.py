"""bfloat16, which numpy lacks, between ONNX Runtime and arrays of float32."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

ONNX_TYPE = 16
"""onnx.TensorProto.BFLOAT16."""


def bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The upper half of each float32: bfloat16, cut and not rounded, as Triton's client does."""
    wide = np.asarray(array, dtype=np.float32).view(np.uint32)
    return np.asarray(wide >> 16, dtype=np.uint16)


def widened(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 of the same values."""
    return np.asarray(np.asarray(bits.astype(np.uint32) << 16).view(np.float32))


def value(array: npt.NDArray[Any]) -> Any:
    """ONNX Runtime's value of an array of float32."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy_with_onnx_type(bits(array), ONNX_TYPE)


def array(value: Any) -> npt.NDArray[np.float32]:
    """The array of one of ONNX Runtime's values on the CPU."""
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return widened(np.frombuffer(raw, np.uint16).reshape(value.shape()))
