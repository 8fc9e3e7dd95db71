"""bfloat16 tensors for Python-based backends: as their 16 bits, in numpy's uint16.

numpy has no such type, so Triton's Python stub and ONNX Runtime give and take these tensors by
DLPack only. Its capsule says the type in one struct, DLDataType, which is rewritten here: the
bytes stay where they are. Layouts are those of dlpack.h (DLManagedTensor, DLTensor).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

_UINT, _BFLOAT = 1, 4


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """The start of a DLManagedTensor: all that is needed here."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
    )


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = (ctypes.py_object, ctypes.c_void_p)


class _Retagged:
    """What has a DLPack capsule, given out with another type of the same width."""

    def __init__(self, owner: Any, code: int) -> None:
        self._owner, self._code = owner, code

    def __dlpack__(self, **_options: Any) -> Any:
        # Without options every producer gives the first form of capsule, which all consumers take.
        capsule = self._owner.__dlpack__()
        address = _pointer(capsule, b"dltensor")
        kind = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents.dtype
        if (kind.bits, kind.lanes) != (16, 1):
            raise TypeError(f"a tensor of {kind.bits} bits is no bfloat16")
        kind.code = self._code
        # Whoever takes the tensor frees it. Triton's stub marks a taken capsule "used_dlpack", a
        # name that numpy's destructor does not know and fails on.
        _set_destructor(capsule, None)
        return capsule

    def __dlpack_device__(self) -> Any:
        return self._owner.__dlpack_device__()


def bits(tensor: Any) -> npt.NDArray[np.uint16]:
    """The bits of a bfloat16 tensor on the CPU: Triton's, or ONNX Runtime's."""
    return np.from_dlpack(_Retagged(tensor, _UINT))


def tensor(bits: npt.NDArray[np.uint16]) -> Any:
    """What `pb_utils.Tensor.from_dlpack` takes for a bfloat16 tensor."""
    return _Retagged(np.require(bits, requirements=["C", "W"]), _BFLOAT)
