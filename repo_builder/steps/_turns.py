"""Times models in turns, so that whatever else the machine does meanwhile hits all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from repo_builder.base.energy import Meter
from repo_builder.steps import _data, _runtimes

MIN_RUNS = 10
"""Runs of each model and batch size; a median of fewer says little."""

LONGEST = 5.0
"""Seconds after which a batch size ends even with fewer runs, and over which none is begun."""

BLOCK_S = 0.01
"""Seconds of runs of one model before the other has its turn: many, and none alone with a cache."""


ENERGY_BLOCK_S, ENERGY_ROUNDS = 0.2, 4
"""Counters of energy move about every millisecond, so blocks of runs are long."""


@dataclass(frozen=True)
class Energy:
    """Joules of all processors for one request of batch 1, with what else ran meanwhile.

    `less` is how many times that of fp32 in the same runtime is, with its quartiles (low, median,
    high); None where there is no fp32 beside it.
    """

    joules: float
    less: tuple[float, float, float] | None


@dataclass(frozen=True)
class Beside:
    """Another model in batch 1, and how many times our time it takes: a median, its quartiles."""

    p50_ms: float
    faster: float
    faster_low: float
    faster_high: float


def take(
    runners: Sequence[_runtimes.Runner], feed: Mapping[str, _data.Array], seconds: float
) -> list[list[list[float]]]:
    """Blocks of times of each runner, in seconds: first to last, then last to first (ABBA ...).

    It takes `seconds` for each runner: longer for `MIN_RUNS`, but not beyond `LONGEST`.
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
        few = min(len(times) * n for times, n in zip(blocks, lengths, strict=True)) < MIN_RUNS
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
    meter: Meter,
) -> Energy:
    """What one run of ours costs, and fp32's beside it, in turns."""
    runners = [ours] if fp32 is None else [ours, fp32]
    spent: list[list[float]] = [[] for _ in runners]
    order = list(range(len(runners)))
    for _ in range(ENERGY_ROUNDS):
        for number in order:
            spent[number].append(_joules(runners[number], feed, meter))
        order.reverse()
    if fp32 is None:
        return Energy(float(np.median(spent[0])), None)
    ratios = [b / a for a, b in zip(*spent, strict=True) if a > 0]
    if not ratios:  # nothing was counted at all
        return Energy(0.0, None)
    low, middle, high = map(float, np.percentile(ratios, (25, 50, 75)))
    return Energy(float(np.median(spent[0])), (low, middle, high))


def _joules(runner: _runtimes.Runner, feed: Mapping[str, _data.Array], meter: Meter) -> float:
    before, begun, runs = meter.joules(), time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - begun < ENERGY_BLOCK_S:
        runner.run(feed)
        runs += 1
    return (meter.joules() - before) / runs


def _length(runner: _runtimes.Runner, feed: Mapping[str, _data.Array]) -> int:
    """How many runs take `BLOCK_S`, after a warm-up."""
    (first,) = block(runner, feed, 1)
    if first > 10 * BLOCK_S:
        return 1
    return max(1, round(BLOCK_S / min(block(runner, feed, 3))))
