"""What changed between two runs beyond noise.

Rows a second of a cell's visits are compared by Welch's t-test on their logarithms, so that an
interval is of a ratio. All cells together are wrong with a chance of 5 % at most: each is held to
1 - 0.05 / cells (Bonferroni's correction), since of 100 cells that did not change about five would
otherwise seem to.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from repo_builder.base import statistics as intervals
from repo_builder.tune.measure.types import CONFIDENCE, Cell, Measured

_MEMORY_SHARE, _MEMORY_MB = 0.05, 1.0
"""Memory has no interval: what differs by more than this share and so many MB is told."""


@dataclass(frozen=True)
class Change:
    """How many times as many rows a second a cell gives now, with its interval.

    `verdict`: `faster`, `slower`, `same` (within noise), or `unknown` where a run has too few
    visits or doubtful ones. `rebuilt`: the files differ. `memory_mb` is the change of what the
    model takes, None where it is small or not known.
    """

    name: str
    verdict: str
    ratio: float
    low: float | None
    high: float | None
    rebuilt: bool
    memory_mb: float | None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side. `confidence` is that of each cell.

    `other_machine` says how the machines differ, "" where they do not: then changes are not the
    models' alone. `gone` and `new` are cells of one run only.
    """

    since: str
    confidence: float
    other_machine: str
    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The whole in one sentence."""
        counts = {
            word: sum(one.verdict == word for one in self.changes)
            for word in ("faster", "slower", "same", "unknown")
        }
        parts = [
            f"{count} {'within noise' if word == 'same' else word}"
            for word, count in counts.items()
            if count
        ]
        return (
            f"against {self.since}: {', '.join(parts) or 'no cell in common'} "
            f"(each cell at {100 * self.confidence:.4g} % confidence, so that all "
            f"{len(self.changes)} together keep {CONFIDENCE:.0%})"
        )


def of(now: Measured, before: Measured) -> Comparison:
    """What changed from `before` to `now`."""
    old = {cell.key: cell for cell in before.cells}
    pairs = [(old[cell.key], cell) for cell in now.cells if cell.key in old]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    ours = {cell.key for cell in now.cells}
    return Comparison(
        before.at,
        confidence,
        _machines(now, before),
        tuple(_change(a, b, confidence) for a, b in pairs),
        tuple(cell.name for cell in before.cells if cell.key not in ours),
        tuple(cell.name for cell in now.cells if cell.key not in old),
    )


def _machines(now: Measured, before: Measured) -> str:
    ours, theirs = asdict(now.hardware), asdict(before.hardware)
    if now.hardware.identity != before.hardware.identity:
        names = ("cpu", "architecture", "cores", "quota", "flags", "governors")
        differ = [name for name in names if ours[name] != theirs[name]]
        said = [f"{name} {_text(theirs[name])}, now {_text(ours[name])}" for name in differ]
        return "another machine or other settings: " + "; ".join(said)
    if now.threads != before.threads:
        return f"other settings: threads {before.threads}, now {now.threads}"
    if now.tools != before.tools:
        changed = [
            f"{name} {before.tools.get(name, 'absent')}, now {now.tools.get(name, 'absent')}"
            for name in sorted({*now.tools, *before.tools})
            if now.tools.get(name) != before.tools.get(name)
        ]
        return "other runtimes: " + "; ".join(changed)
    return ""


def _text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value)) or "not known"
    return "none" if value is None else str(value)


def _change(before: Cell, now: Cell, confidence: float) -> Change:
    ratio = now.rows_per_second.value / before.rows_per_second.value
    interval = _welch(now.visits, before.visits, confidence)
    low, high = interval or (None, None)
    doubts = (("then", before.doubt), ("now", now.doubt))
    doubted = next((f"{when}: {doubt}" for when, doubt in doubts if doubt), "")
    why = doubted or ("" if interval else "too few visits")
    verdict = (
        "unknown"
        if why or low is None or high is None
        else "faster"
        if low > 1
        else "slower"
        if high < 1
        else "same"
    )
    memory = _memory(before, now)
    return Change(now.name, verdict, ratio, low, high, before.digest != now.digest, memory, why)


def _memory(before: Cell, now: Cell) -> float | None:
    if before.memory is None or now.memory is None:
        return None
    more = now.memory.model - before.memory.model
    large = max(_MEMORY_MB, _MEMORY_SHARE * before.memory.model)
    return more if abs(more) > large else None


def _welch(
    now: Sequence[float], before: Sequence[float], confidence: float
) -> intervals.Interval | None:
    """The interval of the ratio of geometric means; None of too few visits."""
    if min(len(now), len(before)) < intervals.LEAST_GROUPS:
        return None
    a, b = ([math.log(rate) for rate in rates] for rates in (now, before))
    parts = [statistics.variance(logs) / len(logs) for logs in (a, b)]
    gap = statistics.fmean(a) - statistics.fmean(b)
    if not sum(parts):
        return math.exp(gap), math.exp(gap)
    # Welch and Satterthwaite's degrees of freedom.
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(logs) - 1) for part, logs in zip(parts, (a, b), strict=True)
    )
    half = intervals.student_t(confidence, degrees) * math.sqrt(sum(parts))
    return math.exp(gap - half), math.exp(gap + half)
