"""Times models in turns, so that whatever else the machine does meanwhile hits all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from repo_builder.base.energy import CannotRead, Measures, Meter
from repo_builder.steps import _data, _runtimes

MIN_RUNS = 10
"""Runs of each model and batch size; a median of fewer says little."""

LONGEST = 5.0
"""Seconds after which a batch size ends even with fewer runs, and over which none is begun."""

BLOCK_S = 0.01
"""Seconds of runs of one model before the other has its turn: many, and none alone with a cache."""


ENERGY_ROUNDS = 4
"""Of turns, in blocks as long as the meter asks for: its figures move slowly."""


@dataclass(frozen=True)
class Energy:
    """Joules of all processors for one request of batch 1, with what else ran meanwhile.

    `less` is how many times that of fp32 in the same runtime is, with its quartiles (low, median,
    high); None where there is no fp32 beside it. `doubt` is what speaks against the figures.
    """

    joules: float
    less: tuple[float, float, float] | None
    doubt: str = ""


@dataclass(frozen=True)
class Beside:
    """Another model in batch 1, and how many times our time it takes: a median, its quartiles."""

    p50_ms: float
    faster: float
    faster_low: float
    faster_high: float


def take(
    runners: Sequence[_runtimes.Runner],
    feed: Mapping[str, _data.Array],
    seconds: float,
    least: int = MIN_RUNS,
) -> list[list[list[float]]]:
    """Blocks of times of each runner, in seconds: first to last, then last to first (ABBA ...).

    It takes `seconds` for each runner: longer for `least` runs, but not beyond `LONGEST`.
    """
    lengths = [_length(runner, feed) for runner in runners]
    blocks: list[list[list[float]]] = [[] for _ in runners]
    order = list(range(len(runners)))
    begun = time.perf_counter()
    while True:
        for number in order:
            blocks[number].append(block(runners[number], feed, lengths[number]))
        order.reverse()
        spent = (time.perf_counter() - begun) / len(runners)
        few = min(len(times) * n for times, n in zip(blocks, lengths, strict=True)) < least
        if spent >= (LONGEST if few else seconds):
            return blocks


def block(runner: _runtimes.Runner, feed: Mapping[str, _data.Array], runs: int) -> list[float]:
    """The seconds of each of `runs` runs."""
    times = []
    last = time.perf_counter()
    for _ in range(runs):
        runner.run(feed)
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return times


def beside(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Beside:
    """The ratio of pairs of blocks, one after the other: a drift of the machine cancels out."""
    ratios = [np.median(b) / np.median(a) for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = map(float, np.percentile(ratios, (25, 50, 75)))
    median = float(1e3 * np.median(np.concatenate([np.asarray(part) for part in theirs])))
    return Beside(median, middle, low, high)


def energy(
    ours: _runtimes.Runner,
    fp32: _runtimes.Runner | None,
    feed: Mapping[str, _data.Array],
    meter: Meter | None,
) -> Energy | None:
    """What `spent` finds, with the meter's doubts; None without a meter, or where it fails."""
    if meter is None:
        return None
    try:
        with meter:
            found = spent(ours, fp32, feed, meter)
    except CannotRead:  # a source that was lost meanwhile: no figure is better than a part of one
        return None
    still = () if found.joules > 0 else ("its counters stood still",)
    return replace(found, doubt="; ".join((*still, *meter.doubts())))


def spent(
    ours: _runtimes.Runner,
    fp32: _runtimes.Runner | None,
    feed: Mapping[str, _data.Array],
    meter: Measures,
) -> Energy:
    """What one run of ours costs, and fp32's beside it, in turns."""
    runners = [ours] if fp32 is None else [ours, fp32]
    joules: list[list[float]] = [[] for _ in runners]
    order = list(range(len(runners)))
    for _ in range(ENERGY_ROUNDS):
        for number in order:
            joules[number].append(_joules(runners[number], feed, meter))
        order.reverse()
    if fp32 is None:
        return Energy(float(np.median(joules[0])), None)
    ratios = [b / a for a, b in zip(*joules, strict=True) if a > 0]
    if not ratios:  # nothing was counted at all
        return Energy(0.0, None)
    low, middle, high = map(float, np.percentile(ratios, (25, 50, 75)))
    return Energy(float(np.median(joules[0])), (low, middle, high))


def _joules(runner: _runtimes.Runner, feed: Mapping[str, _data.Array], meter: Measures) -> float:
    before, begun, runs = meter.joules(), time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - begun < meter.block_s:
        runner.run(feed)
        runs += 1
    return (meter.joules() - before) / runs


def _length(runner: _runtimes.Runner, feed: Mapping[str, _data.Array]) -> int:
    """How many runs take `BLOCK_S`, after a warm-up."""
    (first,) = block(runner, feed, 1)
    if first > 10 * BLOCK_S:
        return 1
    return max(1, round(BLOCK_S / min(block(runner, feed, 3))))
