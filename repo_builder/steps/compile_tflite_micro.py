"""`compile-tflite-micro`: int8 TFLite as a firmware bundle for TensorFlow Lite Micro."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import GateFailed, Problem
from repo_builder.steps import _firmware
from repo_builder.steps._level import Level
from repo_builder.tflite.arena import Estimate
from repo_builder.tflite.ports import Ports

MODEL = "model.tflite"
RUNTIME_FLASH = 16 * 1024
"""Bytes of code that TensorFlow Lite Micro's core takes at least on a Cortex-M3, by its README."""


@dataclass(frozen=True)
class Params:
    """`flash_kb` and `ram_kb` are the device's, in 1024 bytes; `model` and `device` name both."""

    model: str
    device: str
    flash_kb: int
    ram_kb: int


@dataclass(frozen=True)
class Inputs:
    """`model`: what `compile-tflite` made."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """Sizes in bytes; `resolver` are the methods that add the model's operators."""

    size: int
    arena: Estimate
    flash_needed: int
    flash: int
    ram: int
    nodes: int
    resolver: tuple[str, ...]
    level: Level


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.tflite`, C array, header, README. GateFailed where the device is too small."""
    data = (inputs.model / MODEL).read_bytes()
    shutil.copyfile(inputs.model / MODEL, out / MODEL)
    bundle = _firmware.write(
        data,
        Ports.read(inputs.model),
        out,
        model=params.model,
        device=params.device,
        facts=("not run on the device",),
        extra_files={MODEL: "the model itself"},
    )
    flash, ram = params.flash_kb * 1024, params.ram_kb * 1024
    needed = bundle.size + RUNTIME_FLASH
    problems = [
        Problem(f"needs {need} bytes of {kind}, the device has {have}", fix)
        for kind, need, have, fix in (
            ("flash", needed, flash, "use fewer weights: narrower layers, pruning"),
            ("RAM", bundle.arena.total, ram, "use smaller maps: lower resolution, earlier strides"),
        )
        if need > have
    ]
    if problems:
        raise GateFailed(f"{params.model} does not fit {params.device}", problems)
    reason = (
        "ran in LiteRT's reference kernels, whose int8 arithmetic TensorFlow Lite Micro shares; "
        "TensorFlow Lite Micro itself and the device were not here, the arena is an estimate"
    )
    return Facts(
        bundle.size,
        bundle.arena,
        needed,
        flash,
        ram,
        bundle.nodes,
        tuple(_firmware.adder(op) for op in bundle.ops),
        Level("simulated", reason),
    )
