"""What slices of load say of a device that gets warm: what it keeps, and whether it is steady."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from repo_builder.base import statistics
from repo_builder.base.energy import account
from repo_builder.base.statistics import Interval

CONFIDENCE = 0.95
FIRST_S = 60.0
"""What the end is compared with, or a quarter of the soak where it is shorter."""
STILL = 0.01
"""A fall from the third quarter to the last one that is no steady state, if it is beyond noise."""
WIDE = 0.1
"""Half of an interval that is too wide to tell what heat does."""
_MOST_CORRELATED = 0.9


@dataclass(frozen=True)
class Slice:
    """Some seconds of load. `at_s` is its middle, since the start; `seconds` are those from the end
    of the slice before it; rates are of answered calls.

    `celsius` is the warmest zone at its end, `mhz` the mean of the CPUs' clocks then, `busy` the
    share (0..1) of the CPUs' time in use, `joules` what was spent, `throttles` the counters that
    went up and by how much. None is what could not be read, or of no call.
    """

    at_s: float
    seconds: float
    calls: int
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    celsius: float | None = None
    mhz: float | None = None
    busy: float | None = None
    joules: float | None = None
    throttles: tuple[tuple[str, int], ...] = ()

    @property
    def per_second(self) -> float:
        """Answered calls a second."""
        return self.calls / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Soak:
    """All slices, watts at rest before them, and why something could not be read."""

    slices: tuple[Slice, ...]
    idle_watts: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """The last quarter's rate as a share of the first minute's, with a 95 % interval.

    `interval` is None of fewer than ten slices in either. `falling` says that the last quarter
    is slower than the third one, beyond noise and by more than 1 %: not steady yet. `p99_ms` are
    the medians of both parts' slices.
    """

    first: float
    last: float
    share: float
    interval: Interval | None
    falling: bool
    p99_ms: tuple[float, float] | None
    celsius: tuple[float, float] | None
    mhz: tuple[float, float] | None
    throttles: tuple[tuple[str, int], ...]
    energy: account.PerInference | None
    watts: float | None

    @property
    def spread(self) -> str:
        """Why the figures are too uneven to tell much; "" where they are not."""
        if self.interval is None:
            return ""
        half = (self.interval[1] - self.interval[0]) / 2
        if half <= WIDE:
            return ""
        return (
            f"the rates are so uneven that a change below {half:.0%} would not show: "
            "leave the machine alone, and soak longer"
        )

    @property
    def changed(self) -> bool:
        """Whether the device lost or gained speed beyond noise."""
        return self.interval is not None and not self.interval[0] <= 1 <= self.interval[1]


def kept(soak: Soak) -> Kept:
    """Compare the end with the start. ValueError of a soak in which nothing was answered."""
    slices = soak.slices
    if not any(one.calls for one in slices):
        raise ValueError("nothing was answered")
    seconds = sum(one.seconds for one in slices)
    begin = [one for one in slices if one.at_s <= min(FIRST_S, seconds / 4)] or [slices[0]]
    third = [one for one in slices if seconds / 2 < one.at_s <= seconds * 0.75]
    end = [one for one in slices if one.at_s > seconds * 0.75] or [slices[-1]]
    first, last = rate(begin), rate(end)
    if not first:
        raise ValueError("nothing was answered in the first minute")
    return Kept(
        first,
        last,
        last / first,
        ratio(begin, end),
        _falls(third, end),
        _p99(begin, end),
        _ends([one.celsius for one in slices]),
        _ends([one.mhz for one in slices]),
        _sum(slices),
        _energy(soak),
        _watts(slices),
    )


def rate(slices: Sequence[Slice]) -> float:
    """Answered calls a second, of all together."""
    return sum(one.calls for one in slices) / sum(one.seconds for one in slices)


def ratio(begin: Sequence[Slice], end: Sequence[Slice]) -> Interval | None:
    """The interval of end over begin: relative errors added in squares (delta method).

    Neighbouring slices are alike, so each half is wider by sqrt((1 + r) / (1 - r)), with r their
    correlation (Bayley and Hammersley, "The effective number of independent observations", 1946).
    None of too few slices.
    """
    halves = []
    for part in (begin, end):
        rates = [one.per_second for one in part]
        interval = statistics.of_mean(rates, CONFIDENCE)
        mean = fmean(rates)
        if interval is None or mean <= 0:
            return None
        alike = min(max(correlation(rates), 0.0), _MOST_CORRELATED)
        wider = math.sqrt((1 + alike) / (1 - alike))
        halves.append((interval[1] - interval[0]) / 2 / mean * wider)
    share, half = rate(end) / rate(begin), math.hypot(*halves)
    return share * max(0.0, 1 - half), share * (1 + half)


def correlation(values: Sequence[float]) -> float:
    """Of neighbours in a row of values: 0 of independent ones; 0 where all are equal."""
    mean = fmean(values)
    spread = sum((value - mean) ** 2 for value in values)
    return sum((a - mean) * (b - mean) for a, b in pairwise(values)) / spread if spread else 0.0


def _falls(third: Sequence[Slice], end: Sequence[Slice]) -> bool:
    found = ratio(third, end) if third else None
    return found is not None and found[1] < 1 and rate(end) / rate(third) < 1 - STILL


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The first and the last that was read."""
    known = [value for value in values if value is not None]
    return (known[0], known[-1]) if known else None


def _p99(begin: Sequence[Slice], end: Sequence[Slice]) -> tuple[float, float] | None:
    parts = [[p99 for one in part if (p99 := one.p99_ms) is not None] for part in (begin, end)]
    return (median(parts[0]), median(parts[1])) if all(parts) else None


def _sum(slices: Sequence[Slice]) -> tuple[tuple[str, int], ...]:
    found: Counter[str] = Counter()
    for one in slices:
        found.update(dict(one.throttles))
    return tuple(sorted(found.items()))


def _energy(soak: Soak) -> account.PerInference | None:
    known = [(j, one.seconds, one.calls) for one in soak.slices if (j := one.joules) is not None]
    if not known or len(known) < len(soak.slices) or not soak.idle_watts:
        return None
    return account.per_inference(known, soak.idle_watts)


def _watts(slices: Sequence[Slice]) -> float | None:
    joules = [one.joules for one in slices]
    known = [value for value in joules if value is not None]
    if not known or len(known) < len(joules):
        return None
    return sum(known) / sum(one.seconds for one in slices)
