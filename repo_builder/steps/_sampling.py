"""How many rows a slow runtime must answer, such as a vendor's simulator: as many as settle it.

Rows come in blocks, in an order drawn by a seed. Each block gives one paired difference of the
metric, source less built, on the same rows. Their mean has Student's t interval; when the whole
interval lies on one side of the gate, more rows would not change the verdict. It is looked at after
every block, so the interval is one of 99 %, not 95 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps import _answers
from repo_builder.steps._data import Array, Samples
from repo_builder.steps._runtimes import Runner

BLOCK = 40
LEAST_BLOCKS = 4
_NARROW = 0.01
"""Without a gate: the half width that is narrow enough, in the metric's own unit."""

# Student's t, 0.995 quantile, by degrees of freedom from 3 to 28; beyond them the last one, which
# is a little too wide. Any table of the distribution has them.
_T = (
    *(5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947),
    *(2.921, 2.898, 2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771, 2.763),
)
_T_BEYOND = 2.76


@dataclass(frozen=True)
class Sampled:
    """The runs that were made, by number in ascending order, and their answers in that order."""

    runs: list[int]
    answers: dict[str, list[Array]]


def collect(
    runner: Runner,
    samples: Samples,
    drop: Callable[[list[int], _answers.Answers], float],
    limit: float | None,
) -> Sampled:
    """Run blocks of `samples` until the drop is settled against `limit`, or all were run.

    `drop(runs, answers)` is the metric's paired difference on these runs; a DataError of it says
    that a block alone cannot be judged, and then all are run.
    """
    order = np.random.default_rng(0).permutation(samples.runs).tolist()
    found: dict[int, dict[str, Array]] = {}
    drops: list[float] = []
    judged = True
    while len(found) < len(order) and not (judged and settled(drops, limit)):
        block = order[len(found) : len(found) + BLOCK]
        answers = _answers.collect(runner, samples.take(block))
        found.update(
            {run: {name: rows[i] for name, rows in answers.items()} for i, run in enumerate(block)}
        )
        try:
            drops.append(drop(block, answers))
        except DataError:
            judged = False
    runs = sorted(found)
    names = [tensor.name for tensor in runner.outputs]
    return Sampled(runs, {name: [found[run][name] for run in runs] for name in names})


def settled(drops: Sequence[float], limit: float | None) -> bool:
    """Whether the interval of the mean of `drops` lies on one side of `limit`; None: is narrow."""
    count = len(drops)
    if count < LEAST_BLOCKS:
        return False
    t = _T[count - LEAST_BLOCKS] if count - LEAST_BLOCKS < len(_T) else _T_BEYOND
    half = t * statistics.stdev(drops) / math.sqrt(count)
    mean = statistics.fmean(drops)
    if limit is None:
        return half <= _NARROW
    return mean + half < limit or mean - half > limit
