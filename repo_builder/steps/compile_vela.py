"""`compile-vela`: int8 TFLite compiled for an Arm Ethos-U by Vela, as a firmware bundle."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import (
    GateFailed,
    MissingExtra,
    ModelError,
    Problem,
    StepError,
    counted,
)
from repo_builder.steps import _firmware, _tool
from repo_builder.steps._level import Level
from repo_builder.tflite.arena import Estimate
from repo_builder.tflite.ports import Ports

TIME_LIMIT_S = 600.0
MODEL = "model_vela.tflite"
SUMMARY = "vela-summary.csv"

_PLACED = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
_REFUSED = re.compile(
    r"^Warning \(supported operators\) operator: (\w+), ofm: '(.*)'\nReason: (.*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Params:
    """`accelerator`, `system_config`, `memory_mode` are Vela's options, from the target.

    `min_npu_share` is the least share of operators that must run on the NPU. `model` and `device`
    name both in the bundle.
    """

    model: str
    device: str
    accelerator: str
    system_config: str
    memory_mode: str
    min_npu_share: float = 0.95


@dataclass(frozen=True)
class Inputs:
    """`model`: what `compile-tflite` made."""

    model: Path


@dataclass(frozen=True)
class Performance:
    """Vela's own estimate for one inference; bytes are traffic, `*_used` is room."""

    cycles: int
    npu_cycles: int
    seconds: float
    macs: int
    clock_hz: float
    sram_used: int
    dram_used: int
    flash_used: int
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int


@dataclass(frozen=True)
class Refused:
    """An operator that stays on the CPU, and why."""

    op: str
    output: str
    reason: str


@dataclass(frozen=True)
class Facts:
    """`npu_share` is the share of operators on the NPU; sizes are in bytes."""

    size: int
    npu_ops: int
    cpu_ops: int
    npu_share: float
    on_cpu: tuple[Refused, ...]
    performance: Performance
    arena: Estimate
    level: Level


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model_vela.tflite`, Vela's summary, C array, header and README.

    GateFailed with each kind of operator left to the CPU where too few run on the NPU; ModelError
    where an input or output is a scalar; StepError where Vela fails or does not end.
    """
    ports = Ports.read(inputs.model)
    for port in (*ports.inputs, *ports.outputs):
        if not port.shape:
            raise ModelError(
                f"'{port.name}' is a scalar, which Vela cannot read; give it the shape [1]"
            )
    if importlib.util.find_spec("ethosu") is None:
        raise MissingExtra("ethos", "compiling for Ethos-U")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(inputs.model / "model.tflite", folder / "model.tflite")
        output = _tool.run("Vela", _command(params), folder, TIME_LIMIT_S)
        summaries = list((folder / "output").glob("model_summary_*.csv"))
        if len(summaries) != 1:
            raise StepError("Vela wrote no summary; its output is in the log")
        shutil.copyfile(folder / "output" / MODEL, out / MODEL)
        shutil.copyfile(summaries[0], out / SUMMARY)
    npu, cpu, refused = placement(output)
    share = npu / max(npu + cpu, 1)
    if share < params.min_npu_share:
        kinds: dict[tuple[str, str], list[str]] = {}
        for item in refused:
            kinds.setdefault((item.op, item.reason), []).append(item.output)
        problems = [
            Problem(reason, field=counted(op, outputs)) for (op, reason), outputs in kinds.items()
        ]
        raise GateFailed(
            f"{npu} of {npu + cpu} operators ({share:.0%}) run on the NPU, "
            f"{params.min_npu_share:.0%} are asked for; change what stays on the CPU",
            problems,
        )
    performance = read_summary(out / SUMMARY)
    data = (out / MODEL).read_bytes()
    version = importlib.metadata.version("ethos-u-vela")
    bundle = _firmware.write(
        data,
        ports,
        out,
        model=params.model,
        device=params.device,
        link=" with the Ethos-U kernel and Arm's Ethos-U driver",
        facts=_said(params, performance, npu, cpu, version),
        extra_files={
            MODEL: "the model itself",
            SUMMARY: "Vela's estimate of cycles, memory and bandwidth",
        },
    )
    reason = (
        f"Vela {version} compiled it, {npu} of {npu + cpu} operators for the NPU; the int8 model "
        "it was given ran in LiteRT's reference kernels; no Ethos-U was here to run the result"
    )
    return Facts(
        len(data), npu, cpu, share, refused, performance, bundle.arena, Level("compiled", reason)
    )


def placement(output: str) -> tuple[int, int, tuple[Refused, ...]]:
    """Operators on the NPU, on the CPU, and why the latter, from what Vela printed."""
    counts = {place: int(count) for place, count in _PLACED.findall(output)}
    if set(counts) != {"CPU", "NPU"}:
        raise StepError("Vela did not say where operators run; use ethos-u-vela 5.2")
    return (
        counts["NPU"],
        counts["CPU"],
        tuple(Refused(*match) for match in _REFUSED.findall(output)),
    )


def read_summary(file: Path) -> Performance:
    """Vela's summary CSV: one row of figures; memory used is in KiB there."""
    with file.open(encoding="utf-8", newline="") as stream:
        row = next(csv.DictReader(stream))
    try:
        used = {
            area: round(float(row[f"{area}_memory_used"]) * 1024)
            for area in ("sram", "dram", "on_chip_flash", "off_chip_flash")
        }
        return Performance(
            cycles=int(float(row["cycles_total"])),
            npu_cycles=int(float(row["cycles_npu"])),
            seconds=float(row["inference_time"]),
            macs=int(float(row["nn_macs"])),
            clock_hz=float(row["core_clock"]),
            sram_used=used["sram"],
            dram_used=used["dram"],
            flash_used=used["on_chip_flash"] + used["off_chip_flash"],
            sram_bytes=int(float(row["sram_total_bytes"])),
            dram_bytes=int(float(row["dram_total_bytes"])),
            flash_bytes=int(float(row["on_chip_flash_total_bytes"]))
            + int(float(row["off_chip_flash_total_bytes"])),
        )
    except (KeyError, ValueError) as failure:
        raise StepError(
            f"Vela's summary has no usable {failure}; use ethos-u-vela 5.2"
        ) from failure


def _command(params: Params) -> list[str]:
    return [
        *(sys.executable, "-m", "ethosu.vela", "model.tflite"),
        *("--accelerator-config", params.accelerator),
        *("--config", "Arm/vela.ini"),
        *("--system-config", params.system_config),
        *("--memory-mode", params.memory_mode),
        *("--output-dir", "output"),
    ]


def _said(
    params: Params, performance: Performance, npu: int, cpu: int, version: str
) -> tuple[str, ...]:
    return (
        f"compiled by Vela {version} for {params.accelerator}, {params.system_config}, "
        f"{params.memory_mode}",
        f"operators: {npu} on the NPU, {cpu} on the CPU",
        f"Vela's estimate: {performance.cycles} cycles, {performance.seconds * 1e3:.3f} ms at "
        f"{performance.clock_hz / 1e6:.0f} MHz, {performance.sram_used} bytes of SRAM",
        "not run on an Ethos-U: the estimate is Vela's, not a measurement",
    )
