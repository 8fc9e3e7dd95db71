"""Ranges that the calibrator chooses, whatever the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from repo_builder.base.errors import StepError
from repo_builder.steps import _calibrate

METHODS = ("minmax", "percentile", "entropy")
VALUES = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=2, max_side=40),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


def histogram(*parts: np.ndarray) -> _calibrate.Histogram:
    made = _calibrate.Histogram()
    for part in parts:
        made.add(part)
    return made


@given(st.lists(VALUES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_value_is_counted_once_in_any_order(parts: list[np.ndarray]) -> None:
    forward, backward = histogram(*parts), histogram(*parts[::-1])
    assert forward.counts.sum() == sum(part.size for part in parts)
    assert (forward.low, forward.high) == (backward.low, backward.high)
    assert forward.limit == backward.limit
    np.testing.assert_array_equal(forward.counts, backward.counts)


@given(VALUES, st.sampled_from(METHODS), st.booleans(), st.floats(90, 100))
@settings(max_examples=60, deadline=None)
def test_range_holds_zero_and_nothing_that_was_not_seen(
    values: np.ndarray, method: str, symmetric: bool, percentile: float
) -> None:
    chosen = _calibrate.choose(histogram(values), method, percentile, symmetric)
    assert chosen.low <= 0 <= chosen.high
    slack = 1e-4 * float(np.abs(values).max())
    assert chosen.low >= min(float(values.min()), 0.0) - slack
    assert chosen.high <= max(float(values.max()), 0.0) + slack


@given(st.integers(0, 100), st.integers(-8, 8), st.sampled_from(METHODS))
@settings(max_examples=30, deadline=None)
def test_twice_the_values_have_twice_the_range(seed: int, power: int, method: str) -> None:
    values = np.random.default_rng(seed).standard_normal(5000).astype(np.float32)
    one = _calibrate.choose(histogram(values), method, 99.9, False)
    many = _calibrate.choose(histogram(values * 2.0**power), method, 99.9, False)
    np.testing.assert_allclose(
        [many.low, many.high], np.multiply([one.low, one.high], 2.0**power), rtol=1e-3
    )


@pytest.mark.parametrize("shape", ["normal", "relu", "laplace"])
@pytest.mark.parametrize("outlier", [60.0, 1000.0])
def test_an_outlier_is_clipped(shape: str, outlier: float) -> None:
    random = np.random.default_rng(0)
    values = random.laplace(size=400_000) if shape == "laplace" else random.standard_normal(400_000)
    if shape == "relu":
        values = np.maximum(values, 0)
    usual = float(np.abs(values).max())
    found = histogram(np.append(values, outlier).astype(np.float32))
    assert _calibrate.choose(found, "minmax", 99.99, False).high == outlier
    for method in ("percentile", "entropy"):
        chosen = _calibrate.choose(found, method, 99.99, False)
        assert 0.5 * np.quantile(np.abs(values), 0.999) < chosen.high < 1.3 * usual


def test_entropy_clips_no_distribution_without_tails() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    assert _calibrate.choose(histogram(values), "entropy", 99.99, True).high > 0.97


def test_percentile_is_numpys() -> None:
    values = np.random.default_rng(0).gumbel(size=100_000).astype(np.float32)
    chosen = _calibrate.choose(histogram(values), "percentile", 99.0, False)
    expected = np.quantile(values, [0.005, 0.995])
    np.testing.assert_allclose([chosen.low, chosen.high], expected, rtol=0.01)


def test_values_that_are_not_finite_are_named() -> None:
    runs = [{"a": np.ones(3, np.float32)}, {"a": np.array([1, np.nan], np.float32)}]
    with pytest.raises(StepError, match="'a' becomes NaN on calibration row 1"):
        _calibrate.watch(["a"], runs)
