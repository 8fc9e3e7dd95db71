"""Confidence intervals for differences that were measured in pairs, on the same rows.

Only the standard library: what judges on a device, in a build or in a fleet shares these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, variance

Interval = tuple[float, float]
"""(low, high), both ends belong to it."""

LEAST_GROUPS = 10
"""Of fewer values no interval is told: the quantile of Student's t below is not exact enough."""

_TINY = 1e-300
_EXPANDED = 9
_LARGEST_T = 1e6

_STEPS = 100
"""Halvings of a bisection: more than a float has bits."""


def quantile(confidence: float) -> float:
    """z of a two-sided interval: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_t(confidence: float, degrees: float) -> float:
    """The quantile of Student's t for a two-sided interval: 2.262 for 0.95 and 9 degrees.

    Fisher and Cornish's expansion in 1 / degrees, four terms (Abramowitz and Stegun, 26.7.5); off
    by less than 0.0002 from 9 degrees on for a confidence of at most 0.99. Of fewer degrees the
    exact distribution (26.7.3 and 26.7.4), by bisection, of the next smaller whole number: wider.
    """
    if degrees < _EXPANDED:
        whole = max(1, math.floor(degrees))
        return _crossing(lambda t: _within_t(t, whole) < confidence, 0.0, _LARGEST_T)
    z = quantile(confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, 1))


def _within_t(t: float, degrees: int) -> float:
    """The probability that Student's t lies within -t and t (Abramowitz and Stegun, 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * power / (power + 1)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def of_mean(values: Sequence[float], confidence: float) -> Interval | None:
    """Student's interval for the mean of independent values; None of fewer than `LEAST_GROUPS`."""
    count = len(values)
    if count < LEAST_GROUPS:
        return None
    mean = fmean(values)
    half = student_t(confidence, count - 1) * math.sqrt(variance(values, mean) / count)
    return mean - half, mean + half


def of_proportions(lost: int, won: int, rows: int, confidence: float) -> Interval:
    """Tango's score interval for the difference (lost - won) / rows of two paired proportions.

    `lost` rows of `rows` were right before and are wrong now, `won` the other way round. It keeps
    its promise for small samples and where nothing differs: then it ends at z^2 / (rows + z^2)
    (Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17, 1998).
    """
    z = quantile(confidence)

    def score(difference: float) -> float:
        """How many standard errors the data lie above this true difference, under which it is."""
        a = 2 * rows
        b = -lost - won + (2 * rows - lost + won) * difference
        c = -won * difference * (1 - difference)
        only_won = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = rows * (2 * only_won + difference * (1 - difference))
        gap = lost - won - rows * difference
        return (
            0.0 if gap == 0 else gap / math.sqrt(spread) if spread > 0 else math.copysign(1e9, gap)
        )

    estimate = (lost - won) / rows
    return (
        _crossing(lambda d: score(d) > z, -1.0, estimate),
        _crossing(lambda d: score(d) >= -z, estimate, 1.0),
    )


def jackknife(whole: float, without: Sequence[float], confidence: float) -> Interval | None:
    """The interval of a statistic from its values with one of equal groups left out each time.

    `whole` is the value of all rows. Student's interval with the jackknife's standard error,
    sqrt((g - 1) / g * sum((value - mean)^2)) (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, 11.5). None of fewer than `LEAST_GROUPS` groups.
    """
    groups = len(without)
    if groups < LEAST_GROUPS:
        return None
    half = student_t(confidence, groups - 1) * jackknife_error(without)
    return whole - half, whole + half


def jackknife_error(without: Sequence[float]) -> float:
    """The jackknife's standard error of a statistic, as `jackknife`; of two groups or more."""
    groups = len(without)
    return (groups - 1) * math.sqrt(variance(without) / groups)


def rows_needed(interval: Interval, rows: int, limit: float) -> int | None:
    """About how many rows bring the upper end of an interval of `rows` rows down to `limit`.

    If what was seen goes on: the distance from the middle shrinks with the root of the rows; to two
    figures. None where the middle itself lies above the limit: more rows would not help.
    """
    middle, high = (interval[0] + interval[1]) / 2, interval[1]
    if middle >= limit:
        return None
    return int(float(f"{rows * ((high - middle) / (limit - middle)) ** 2:.2g}"))


def _crossing(below: Callable[[float], bool], low: float, high: float) -> float:
    """Where `below` turns from true to false between `low` and `high`."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high
