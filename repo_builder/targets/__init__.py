"""Devices a model can be built for: one data file each in `catalog/`, read into a frozen `Target`.

A target says what is true of the device; it never compiles anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Runtime = Literal["onnxruntime", "openvino"]


@dataclass(frozen=True)
class Target:
    """The facts of one device that decide what is built for it.

    `runtime` is both the toolchain and the Triton backend; `architectures` are OCI names;
    `precisions` are those the runtime executes natively; `cores` is the number of cores that
    instances and threads are planned for (0: those of the machine that builds).
    """

    name: str
    title: str
    runtime: Runtime
    architectures: tuple[str, ...]
    precisions: tuple[str, ...]
    cores: int
    memory_mb: int
