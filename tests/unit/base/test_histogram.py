from __future__ import annotations

import json
import math
import random

import pytest

from repo_builder.base.histogram import LEAST_S, Histogram


def test_quantiles_are_within_one_percent_however_the_times_are_spread() -> None:
    draw = random.Random(5)  # noqa: S311
    slow = [draw.expovariate(5) for _ in range(40)]
    times = sorted([draw.lognormvariate(-6, 0.3) for _ in range(3_960)] + slow)
    counted = Histogram.of(times)
    for share in (0.01, 0.5, 0.9, 0.985, 0.99, 0.995, 1.0):
        exact = times[math.ceil(share * len(times)) - 1]
        assert counted.quantile(share) == pytest.approx(exact, rel=0.0101)
    assert counted.mean == pytest.approx(math.fsum(times) / len(times))


def test_merging_is_as_counting_all_in_one() -> None:
    first, second = [0.001, 0.2, 0.2], [0.03, 0.0]
    merged = Histogram.of(first).merged(Histogram.of(second))
    assert merged.counts == Histogram.of(first + second).counts
    assert merged.count == 5
    assert merged.total_s == pytest.approx(0.431)


def test_reads_what_it_wrote() -> None:
    counted = Histogram.of([0.001, 0.5, 0.5])
    assert Histogram.of_json(json.loads(json.dumps(counted.as_json()))) == counted


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "buckets of None"),
        ({"gamma": 1.05, "total_s": 0.0, "counts": {}}, "buckets of 1.05, not 1.02"),
        ({"gamma": 1.02, "total_s": 0.0, "counts": [1]}, "no histogram"),
        ({"gamma": 1.02, "total_s": 0.0, "counts": {"1": -1}}, "no whole number"),
        ({"gamma": 1.02, "total_s": 0.0, "counts": {"x": 1}}, "invalid literal"),
    ],
)
def test_refuses_what_is_no_histogram(record: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Histogram.of_json(record)


def test_counts_what_is_above_a_limit() -> None:
    counted = Histogram.of([0.010] * 90 + [0.030] * 10)
    assert counted.above(0.020) == 10
    assert counted.above(0.001) == 100
    assert counted.above(0.040) == 0


def test_of_no_times_nothing_is_told() -> None:
    assert math.isnan(Histogram().quantile(0.5))
    assert math.isnan(Histogram().mean)
    with pytest.raises(ValueError, match="rank 1 of 0 times"):
        Histogram().at_rank(1)


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="no time"):
        Histogram().add(seconds)


def test_shorter_than_a_microsecond_counts_as_one() -> None:
    assert Histogram.of([0.0]).quantile(1) == pytest.approx(LEAST_S, rel=0.011)
