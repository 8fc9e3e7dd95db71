"""Which device and power mode serves a need: candidates judged and ordered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from repo_builder.base.artifact import Contents
from repo_builder.targets import support
from repo_builder.targets.advise.energy import average_watts
from repo_builder.targets.advise.roofline import (
    BAND,
    Footprint,
    Machine,
    Timing,
    Unknown,
    footprint,
    rate,
    timing,
)
from repo_builder.targets.advise.workload import Workload
from repo_builder.targets.types import PowerMode, Precision, Target

Verdict = Literal["yes", "maybe", "unknown", "no"]
_ORDER: tuple[Verdict, ...] = ("yes", "maybe", "unknown", "no")


@dataclass(frozen=True)
class Need:
    """What the application asks for; None where it does not care.

    `fps` counts rows a second, `latency_ms` one inference, `power_w` is the most that the device
    may draw.
    """

    fps: float | None = None
    latency_ms: float | None = None
    power_w: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A device in one power mode, judged.

    `fps` is the most rows a second. `yes` holds even if the estimate is too good by the error
    band, `maybe` as estimated; `why` says what speaks against it or is not known.
    """

    target: Target
    mode: PowerMode | None
    precision: Precision
    verdict: Verdict
    why: tuple[str, ...]
    timing: Timing | None
    memory: Footprint
    fps: float | None
    watts: float | None
    millijoules: float | None

    @property
    def id(self) -> str:
        """`jetson-orin-nx/15W`; the mode only where the device has several."""
        several = self.mode is not None and len(self.target.power_modes) > 1
        return f"{self.target.name}/{self.mode.name}" if several and self.mode else self.target.name


def rank(
    workload: Workload,
    targets: Iterable[Target],
    need: Need,
    machine: Machine,
    precision: Precision | None = None,
    contents: Contents | None = None,
) -> list[Candidate]:
    """All candidates, best first: verdict, then least power, then least latency.

    `contents` is what the model uses; a runtime that lacks any of it makes the verdict "no".
    """
    found = [
        _judge(
            workload, target, mode, precision or _best_precision(target), need, machine, contents
        )
        for target in targets
        for mode in (target.power_modes or (None,))
    ]
    return sorted(found, key=_merit)


def _merit(candidate: Candidate) -> tuple[int, float, float, str]:
    far = float("inf")
    latency = candidate.timing.latency_ms if candidate.timing else far
    watts = far if candidate.watts is None else candidate.watts
    return _ORDER.index(candidate.verdict), watts, latency, candidate.id


def _best_precision(target: Target) -> Precision:
    """The fastest precision with a known rate; the target's last where none is known."""
    rows = [row for p in target.precisions if (row := rate(target, p)) is not None]
    if not rows:
        return target.precisions[-1]
    return max(rows, key=lambda row: row.dense_tops or 0).precision


def _judge(
    workload: Workload,
    target: Target,
    mode: PowerMode | None,
    precision: Precision,
    need: Need,
    machine: Machine,
    contents: Contents | None,
) -> Candidate:
    against: list[str] = []
    if contents is not None:
        against += [str(problem) for problem in support.of(target.runtime).problems(contents)]
    unknown: list[str] = []
    estimate = None
    if precision not in target.precisions:
        against.append(f"lacks {precision}; it has {', '.join(target.precisions)}")
    else:
        try:
            estimate = timing(workload, target, precision, mode, machine)
        except Unknown as reason:
            unknown.append(str(reason))
    memory = footprint(workload, target, precision, machine)
    against += _memory_misses(memory)
    if memory.fits is None:
        unknown.append("its memory is not known")
    watts, millijoules = _power(workload, target, mode, estimate, need)
    if need.power_w is not None:
        if mode is None or mode.watts is None:
            unknown.append("its power is not known")
        elif mode.watts > need.power_w:
            against.append(f"may draw {mode.watts:g} W")
    sure = True
    if estimate is not None:
        misses = list(_time_misses(workload, estimate, need))
        against += misses
        sure = not misses and not list(_time_misses(workload, estimate, need, BAND))
    foreign = _foreign_ops(workload, target)
    if foreign:
        sure = False
        unknown.append(f"off its {target.engines[0].name}: {', '.join(foreign)}")
    verdict: Verdict = "yes" if sure else "maybe"
    if against:
        verdict = "no"
    elif estimate is None or memory.fits is None or (need.power_w is not None and watts is None):
        verdict = "unknown"
    why = (*against, *unknown)
    fps = workload.batch / estimate.latency_ms * 1e3 if estimate else None
    return Candidate(
        target, mode, precision, verdict, why, estimate, memory, fps, watts, millijoules
    )


def _memory_misses(memory: Footprint) -> Iterator[str]:
    if memory.flash_available is not None and memory.flash_kb > memory.flash_available:
        yield f"needs {memory.flash_kb:.0f} KB of flash, has {memory.flash_available:.0f}"
    if memory.available_mb is not None and memory.needed_mb > memory.available_mb:
        yield f"needs {memory.needed_mb:.3g} MB of memory, has {memory.available_mb:.3g} free"


def _time_misses(
    workload: Workload, estimate: Timing, need: Need, slower: float = 1.0
) -> Iterator[str]:
    """What an estimate misses, were it `slower` times as long."""
    latency = estimate.latency_ms * slower
    if need.latency_ms is not None and latency > need.latency_ms:
        yield f"takes {latency:.3g} ms"
    if need.fps is not None and workload.batch / latency * 1e3 < need.fps:
        yield f"does {workload.batch / latency * 1e3:.3g} fps"


def _power(
    workload: Workload,
    target: Target,
    mode: PowerMode | None,
    estimate: Timing | None,
    need: Need,
) -> tuple[float | None, float | None]:
    """Average watts, and millijoules for one row, at the asked rate or at full load."""
    most = workload.batch / estimate.latency_ms * 1e3 if estimate else None
    rows = min(need.fps, most) if need.fps and most else need.fps or most
    busy = rows / most if rows and most else 1.0
    watts = average_watts(target, mode, busy)
    return watts, watts / rows * 1e3 if watts is not None and rows else None


def _foreign_ops(workload: Workload, target: Target) -> list[str]:
    """Operators that the default engine does not execute, where it says which it does."""
    known = target.engines[0].ops if target.engines else ()
    return sorted(workload.ops - set(known)) if known else []
