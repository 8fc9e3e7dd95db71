"""Asks this machine's NVIDIA driver and TensorRT library what they are; works on Jetson too."""

from __future__ import annotations

import ctypes
import platform

from repo_builder.base.errors import UsageError
from repo_builder.trt.record import Device

# CUdevice_attribute in cuda.h
_MAJOR, _MINOR = 75, 76
_LIBRARIES = ("libnvinfer.so.11", "libnvinfer.so.10")
_ELSEWHERE = "run this on the device"


def device(tensorrt: str = "") -> Device:
    """This machine as a `Device`; UsageError where it has no NVIDIA GPU or no TensorRT.

    `tensorrt` is the version where the caller knows which of several libraries is used.
    """
    name, capability = gpu()
    system = f"{platform.system().lower()}-{platform.machine()}"
    return Device(tensorrt or library(), capability, name, system)


def gpu(fix: str = _ELSEWHERE) -> tuple[str, str]:
    """Name and compute capability of GPU 0, from the CUDA driver API; UsageError without one."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise UsageError(f"no NVIDIA driver here (libcuda.so.1); {fix}") from None
    handle = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    numbers = []
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(handle), 0):
        raise UsageError(f"the NVIDIA driver finds no GPU; {fix}")
    if cuda.cuDeviceGetName(name, len(name), handle):
        raise UsageError("the NVIDIA driver does not tell the GPU's name; update it")
    for attribute in (_MAJOR, _MINOR):
        number = ctypes.c_int()
        if cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle):
            raise UsageError("the NVIDIA driver does not tell the compute capability; update it")
        numbers.append(number.value)
    return name.value.decode(), f"{numbers[0]}.{numbers[1]}"


def library() -> str:
    """The version of the newest TensorRT library, with all four parts; UsageError without one."""
    for library in _LIBRARIES:
        try:
            nvinfer = ctypes.CDLL(library)
        except OSError:
            continue
        parts = ("Major", "Minor", "Patch", "Build")
        return ".".join(str(getattr(nvinfer, f"getInferLib{part}Version")()) for part in parts)
    raise UsageError(f"no TensorRT 10 or 11 here ({', '.join(_LIBRARIES)}); {_ELSEWHERE}")
