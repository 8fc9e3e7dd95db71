"""How far the difference of two scores is to be trusted: its confidence interval, row by row.

Source and built model answer the same rows, so their scores rise and fall together: an interval of
the difference is many times narrower than that of either score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from repo_builder.base import statistics
from repo_builder.base.errors import DataError
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName
from repo_builder.steps import _metrics
from repo_builder.steps._data import Array
from repo_builder.steps._judge import Evaluation

CONFIDENCE = 0.95
"""Of an interval that no gate asks for."""

_GROUPS = 40
"""A metric of all rows together is computed once without each group."""


def of_drop(
    evaluation: Evaluation,
    source: Mapping[str, Array],
    built: Mapping[str, Array],
    drop: float,
    confidence: float | None,
) -> statistics.Interval | None:
    """The interval of `drop`, in the metric's own unit; None where none can be told.

    `source` and `built` are answers to all rows. A metric that is a mean over rows has its interval
    at once: Tango's where a row is right or wrong, else Student's. Others, and a metric of the
    user's own, are taken 80 times, and so only for a `confidence` that a gate asks for. None: too
    few rows, or parts of them that the metric cannot be taken of.
    """
    metric = evaluation.request.metric
    if metric is None:
        return None
    if per_row := _metrics.PER_ROW.get(metric):
        names = evaluation.request.outputs
        before, after = (
            per_row({role: answers[name] for role, name in names.items()}, evaluation.labels)
            for answers in (source, built)
        )
        asked = CONFIDENCE if confidence is None else confidence
        if before.dtype == bool:
            lost, won = int(np.sum(before & ~after)), int(np.sum(~before & after))
            return statistics.of_proportions(lost, won, len(before), asked)
        worse = before - after if REQUIRES[metric].higher_is_better else after - before
        return statistics.of_mean(worse.tolist(), asked)
    if confidence is None:
        return None
    groups = _without(evaluation, metric, source, built)
    return statistics.jackknife(drop, groups, confidence)


def _without(
    evaluation: Evaluation,
    metric: MetricName,
    source: Mapping[str, Array],
    built: Mapping[str, Array],
) -> list[float]:
    """The drop without each of `_GROUPS` groups of rows; [] where the metric has no such parts.

    Rows are dealt out at random, from a fixed seed, as many files have one class after the other.
    """
    runs = evaluation.samples.runs
    order = np.random.default_rng(0).permutation(runs)
    drops = []
    for group in range(min(_GROUPS, runs)):
        left = np.sort(np.delete(order, np.s_[group::_GROUPS]))
        part = evaluation.of(left)
        scores = []
        for answers in (source, built):
            kept = {name: evaluation.rows_of(array, left) for name, array in answers.items()}
            try:
                score = part.judge(kept)
            except DataError:  # one class is missing, for example
                return []
            scores.append(math.nan if score is None else score)
        drops.append(_metrics.drop(metric, scores[0], scores[1], evaluation.request.own))
    return drops
