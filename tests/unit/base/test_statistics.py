"""Intervals against what scipy, a likelihood searched on a grid, and simulation say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from repo_builder.base import statistics


@pytest.mark.parametrize("degrees", [9, 12, 39, 200, 5000])
@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_quantile_of_students_t(degrees: int, confidence: float) -> None:
    found = statistics.student_t(confidence, degrees)
    assert found == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), abs=2e-4)


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 25)
    error = stats.sem(values)
    low, high = stats.t.interval(0.9, 24, loc=values.mean(), scale=error)
    assert statistics.of_mean(values.tolist(), 0.9) == pytest.approx((low, high), abs=1e-6)
    assert statistics.of_mean(values[:9].tolist(), 0.9) is None


def _by_likelihood(lost: int, won: int, rows: int, confidence: float) -> tuple[float, float]:
    """Tango's interval the long way: the likelihood is maximised on a grid for each difference."""
    z = stats.norm.ppf((1 + confidence) / 2)
    kept = []
    for difference in np.linspace(-0.999, 0.999, 1999):
        chance_won = np.linspace(max(0, -difference), (1 - difference) / 2, 4001)
        chance_lost = chance_won + difference
        chance_same = np.clip(1 - chance_won - chance_lost, 0, None)
        parts = ((lost, chance_lost), (won, chance_won), (rows - lost - won, chance_same))
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = sum(np.where(n == 0, 0.0, n * np.log(chance)) for n, chance in parts)
        best = chance_won[np.argmax(likelihood)]
        spread = rows * (2 * best + difference - difference**2)
        if abs(lost - won - rows * difference) <= z * math.sqrt(spread):
            kept.append(difference)
    return min(kept), max(kept)


@pytest.mark.parametrize(
    ("lost", "won", "rows"),
    [(12, 2, 50), (9, 2, 32), (1, 0, 44), (0, 0, 100), (0, 7, 60), (5, 5, 20)],
)
def test_the_interval_of_paired_proportions(lost: int, won: int, rows: int) -> None:
    found = statistics.of_proportions(lost, won, rows, 0.95)
    assert found == pytest.approx(_by_likelihood(lost, won, rows, 0.95), abs=0.0025)


def test_an_interval_of_a_published_example() -> None:
    # Of 50 pairs 12 differ one way, 2 the other: Newcombe, Statistics in Medicine 17, 1998.
    assert statistics.of_proportions(12, 2, 50, 0.95) == pytest.approx((0.0611, 0.3447), abs=1e-4)


def test_where_nothing_differs_the_interval_still_has_a_width() -> None:
    z2 = statistics.quantile(0.95) ** 2
    end = z2 / (200 + z2)
    assert statistics.of_proportions(0, 0, 200, 0.95) == pytest.approx((-end, end), abs=1e-9)


def test_intervals_hold_what_they_promise() -> None:
    draws = np.random.default_rng(0).multinomial(300, [0.03, 0.02, 0.95], size=4000)
    kinds = {(int(lost), int(won)) for lost, won, _ in draws}
    ends = {kind: statistics.of_proportions(*kind, 300, 0.95) for kind in kinds}
    inside = [ends[lost, won][0] <= 0.01 <= ends[lost, won][1] for lost, won, _ in draws]
    assert 0.94 <= np.mean(inside) <= 0.97


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(2).normal(size=40)
    without = [np.delete(values, i).mean() for i in range(40)]
    found = statistics.jackknife(values.mean(), without, 0.95)
    assert found == pytest.approx(statistics.of_mean(values.tolist(), 0.95), abs=1e-9)
    assert statistics.jackknife(0.0, without[:9], 0.95) is None


def test_how_many_rows_would_tell() -> None:
    assert statistics.rows_needed((-0.01, 0.03), 100, 0.02) == 400
    assert statistics.rows_needed((0.01, 0.05), 100, 0.02) is None


@pytest.mark.parametrize(
    ("confidence", "degrees", "table"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.99, 3, 5.8409),
        (0.95, 4.7, 2.7764),
        (0.95, 8, 2.306),
    ],
)
def test_students_t_of_few_degrees_is_exact(
    confidence: float, degrees: float, table: float
) -> None:
    assert statistics.student_t(confidence, degrees) == pytest.approx(table, abs=1e-4)
