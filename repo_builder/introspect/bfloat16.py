"""bfloat16, which numpy lacks, between ONNX Runtime and arrays of float32."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence
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


def run(
    session: Any,
    outputs: Sequence[str],
    feeds: Mapping[str, npt.NDArray[Any]],
    narrow: Collection[str],
) -> list[npt.NDArray[Any]]:
    """What an ONNX Runtime session on the CPU answers; tensors in `narrow` are bfloat16 there."""
    if not narrow:
        return [np.asarray(array) for array in session.run(outputs, dict(feeds))]
    from onnxruntime import OrtValue

    values = {
        name: OrtValue.ortvalue_from_numpy_with_onnx_type(bits(array), ONNX_TYPE)
        if name in narrow
        else OrtValue.ortvalue_from_numpy(array)
        for name, array in feeds.items()
    }
    found = session.run_with_ort_values(outputs, values)
    return [
        _array(value) if name in narrow else np.asarray(value.numpy())
        for name, value in zip(outputs, found, strict=True)
    ]


def _array(value: Any) -> npt.NDArray[np.float32]:
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return widened(np.frombuffer(raw, np.uint16).reshape(value.shape()))
