"""NVIDIA's GPUs, through NVML's Python binding (the package `nvidia-ml-py`) where it is installed.

Volta and later count millijoules since the driver was loaded; older ones tell milliwatts only.
https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from repo_builder.base.energy.types import About, CannotRead, Missing

WAY = "nvml"


@dataclass(frozen=True)
class Gpu:
    """One GPU with its board."""

    nvml: Any
    handle: Any
    about: About

    def read(self) -> float:
        """Joules so far, or watts now where it does not count."""
        try:
            if self.about.unit == "J":
                return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3
            return float(self.nvml.nvmlDeviceGetPowerUsage(self.handle)) / 1e3
        except self.nvml.NVMLError as failure:
            raise CannotRead(f"{self.about.name}: {failure}") from None


def find(nvml: Any = None) -> Iterator[Gpu | Missing]:
    """Every GPU of NVML; `nvml` is the binding, by default the one that is installed."""
    if nvml is None:
        try:
            import pynvml as nvml  # type: ignore[import-not-found,no-redef]
        except ImportError:
            yield Missing(WAY, "the package nvidia-ml-py is not installed")
            return
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as failure:
        yield Missing(WAY, str(failure))
        return
    for number in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            title = nvml.nvmlDeviceGetName(handle)
            yield _gpu(nvml, handle, f"GPU {number} {title}")
        except nvml.NVMLError as failure:
            yield Missing(WAY, f"GPU {number}: {failure}")


def _gpu(nvml: Any, handle: Any, name: str) -> Gpu | Missing:
    for unit, step in (("J", 1e-3), ("W", 1e-3)):
        gpu = Gpu(nvml, handle, About(WAY, name, "gpu", unit, step))  # type: ignore[arg-type]
        try:
            gpu.read()
        except CannotRead as failure:
            last = Missing(WAY, str(failure))
        else:
            return gpu
    return last
