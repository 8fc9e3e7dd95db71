"""The gates of a spec, applied to what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from repo_builder.build.report.types import Gate
from repo_builder.spec.types import Gates
from repo_builder.targets import Target

MEASURE_AGAIN = "run `repo-builder build --measure-again` while the machine is quiet"
"""The cure of a latency that is not to be trusted."""


@dataclass(frozen=True)
class Measurements:
    """What the gates look at; None where it was not measured.

    `accuracy_drop` is positive where the built model is worse, in the metric's own unit.
    `doubt` says why the latency is not to be trusted; "" where it is.
    """

    size: int
    accuracy_drop: float | None
    latency_ms: float | None
    doubt: str = ""


def failures(gates: Gates, measured: Measurements) -> list[str]:
    """One line for each gate that fails, with the figures; [] where all hold.

    NaN meets no gate, nor does a latency that is not to be trusted.
    """
    lines = []
    drop, latency, size = measured.accuracy_drop, measured.latency_ms, measured.size / 1e6
    if _fails(drop, gates.max_accuracy_drop):
        lines.append(f"accuracy drop {drop:.4g} > max_accuracy_drop {gates.max_accuracy_drop:g}")
    if _fails(size, gates.max_size_mb):
        lines.append(f"size {size:.3g} MB > max_size_mb {gates.max_size_mb:g}")
    if latency is not None and gates.max_latency_ms is not None and measured.doubt:
        lines.append(
            f"latency {latency:.3g} ms cannot be held to max_latency_ms {gates.max_latency_ms:g}: "
            f"{measured.doubt} while it was measured; {MEASURE_AGAIN}"
        )
    elif _fails(latency, gates.max_latency_ms):
        lines.append(f"latency {latency:.3g} ms > max_latency_ms {gates.max_latency_ms:g}")
    return lines


def limits(gates: Gates, measured: Measurements) -> tuple[Gate, ...]:
    """The limits that the spec sets, each with what was measured."""
    size = measured.size / 1e6
    all_of_them = (
        ("max_accuracy_drop", measured.accuracy_drop, gates.max_accuracy_drop, "", ""),
        ("max_size_mb", size, gates.max_size_mb, "MB", ""),
        ("max_latency_ms", measured.latency_ms, gates.max_latency_ms, "ms", measured.doubt),
    )
    return tuple(
        Gate(name, figure, limit, unit, doubt)
        for name, figure, limit, unit, doubt in all_of_them
        if limit is not None
    )


def too_large(target: Target, size: int) -> list[str]:
    """What to say of `size` bytes of weights that alone exceed a device's memory; [] if they fit.

    A device whose memory is not known, or is this machine's, is not judged, nor is one that keeps
    weights elsewhere. What activations and the runtime take comes on top: see `targets advise`.
    """
    free = target.free_mb()
    if free is None or target.micro or size <= free * 2**20:
        return []
    needed = math.ceil(size / 2**20)
    return [
        f"its weights alone take {needed} MB, {target.name} has {free:.4g} MB free of "
        f"{target.memory.size_mb:g}; use a smaller model or a lower precision"
    ]


def over_budget(total_ms: float | None, limit_ms: float | None) -> str:
    """What to say of a pipeline whose stages take longer than its budget; "" where they do not."""
    if not _fails(total_ms, limit_ms):
        return ""
    return f"latency {total_ms:.3g} ms > latency_budget_ms {limit_ms:g}"


def _fails(figure: float | None, limit: float | None) -> bool:
    return figure is not None and limit is not None and not figure <= limit
