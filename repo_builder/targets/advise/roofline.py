"""How long one inference takes on a device, how much memory and energy: a roofline estimate.

A layer takes the longer of its arithmetic and its data, plus a fixed cost:

    t = max(2 macs / (peak * efficiency), bytes / (bandwidth * efficiency)) + layer_us

where peak is the dense rate at the power mode's clock and slices (Williams et al., "Roofline",
CACM 52(4), 2009). Preprocessing, transport and queueing are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from repo_builder.targets.advise.workload import Layer, Workload
from repo_builder.targets.types import Assumptions, Compute, PowerMode, Precision, Target

BAND = 2.0
"""Estimates are taken to be right within this factor, up or down; see docs/roofline.md."""

BYTES: dict[Precision, float] = {
    "fp32": 4, "fp16": 2, "bf16": 2, "int16": 2, "fp8": 1, "int8": 1, "int4": 0.5,
}  # fmt: skip

_MB = 2**20


class Unknown(Exception):
    """No estimate can be made; the text says which figure is missing."""


@dataclass(frozen=True)
class Machine:
    """What targets mean by "the machine that builds": its cores and memory."""

    cores: int
    memory_mb: float


@dataclass(frozen=True)
class Timing:
    """Where the time of one inference goes, in ms; `bound` names the largest part."""

    compute_ms: float
    memory_ms: float
    overhead_ms: float
    latency_ms: float

    @property
    def bound(self) -> str:
        """`compute`, `memory` or `overhead` (the fixed cost of layers)."""
        parts = {
            "compute": self.compute_ms,
            "memory": self.memory_ms,
            "overhead": self.overhead_ms,
        }
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class Footprint:
    """What a model occupies and what there is; `available_mb` None where that is unknown.

    Where a device keeps weights in flash, that is counted apart: `flash_kb` of `flash_available`.
    """

    needed_mb: float
    available_mb: float | None
    flash_kb: float = 0
    flash_available: float | None = None

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where the device's memory is unknown."""
        if self.flash_available is not None and self.flash_kb > self.flash_available:
            return False
        return None if self.available_mb is None else self.needed_mb <= self.available_mb


def rate(target: Target, precision: Precision) -> Compute | None:
    """The figures of the default engine at `precision`; None where there are none."""
    rows = target.engines[0].compute if target.engines else ()
    return next((row for row in rows if row.precision == precision and row.dense_tops), None)


def timing(
    workload: Workload,
    target: Target,
    precision: Precision,
    mode: PowerMode | None,
    machine: Machine,
) -> Timing:
    """The estimate for the target's default engine; Unknown where a figure is missing."""
    row, assumed = rate(target, precision), target.assumptions
    if row is None or row.dense_tops is None:
        raise Unknown(f"no {precision} rate is known for it")
    if assumed is None:
        raise Unknown("its file has no 'assumptions'")
    clock, slices = scale(target, mode)
    units = (target.cores or machine.cores) if target.engines[0].count == 0 else 1
    peak = row.dense_tops * 1e12 * clock * slices * units
    bandwidth = (mode.memory_gb_s if mode else None) or target.memory.bandwidth_gb_s
    parts = [_layer(layer, BYTES[precision], peak, bandwidth, assumed) for layer in workload.layers]
    overhead = len(parts) * assumed.layer_us * 1e-6 / clock
    latency = sum(max(part) for part in parts) + overhead
    return Timing(
        compute_ms=sum(compute for compute, _ in parts) * 1e3,
        memory_ms=sum(memory for _, memory in parts) * 1e3,
        overhead_ms=overhead * 1e3,
        latency_ms=latency * 1e3,
    )


def scale(target: Target, mode: PowerMode | None) -> tuple[float, float]:
    """Shares of the engine's clock and slices that a power mode leaves."""
    engine = target.engines[0]
    if mode is None:
        return 1.0, 1.0
    clock = mode.clocks_mhz.get(engine.name)
    if clock == 0:
        raise Unknown(f"mode {mode.name} switches its {engine.name} off")
    slices = mode.slices.get(engine.name)
    return (
        clock / engine.clock_mhz if clock and engine.clock_mhz else 1.0,
        slices / engine.slices if slices and engine.slices else 1.0,
    )


def _layer(
    layer: Layer, size: float, peak: float, bandwidth: float | None, assumed: Assumptions
) -> tuple[float, float]:
    """Seconds of arithmetic and of data for one layer."""
    share = assumed.depthwise_efficiency if layer.depthwise else assumed.efficiency
    moved = (layer.weights + layer.reads + layer.writes) * size
    reach = bandwidth * 1e9 * assumed.bandwidth_efficiency if bandwidth else None
    return 2 * layer.macs / (peak * share), moved / reach if reach else 0.0


def footprint(
    workload: Workload, target: Target, precision: Precision, machine: Machine
) -> Footprint:
    """Weights, the largest set of live activations, runtime and system, against what there is."""
    assumed = target.assumptions
    runtime = assumed.runtime_mb if assumed else 0.0
    weights = workload.weights * BYTES[precision] / _MB
    live = workload.live * BYTES[precision] / _MB
    if target.micro:
        flash = weights * 1024
        available = target.micro.ram_kb / 1024
        return Footprint(live + runtime, available, flash, target.micro.flash_kb)
    return Footprint(weights + live + runtime, target.free_mb(machine.memory_mb))
