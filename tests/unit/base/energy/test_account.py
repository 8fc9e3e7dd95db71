"""The arithmetic of samples."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_builder.base.energy import account

WATTS = st.floats(0, 1000)


@given(st.lists(st.tuples(st.floats(0.001, 5), WATTS), min_size=2, max_size=50), st.data())
def test_an_integral_is_the_sum_of_its_parts(
    steps: list[tuple[float, float]], data: st.DataObject
) -> None:
    at, samples = 0.0, []
    for step, watts in steps:
        at += step
        samples.append((at, watts))
    cut = data.draw(st.integers(0, len(samples) - 1))
    whole = account.integral(samples)
    parts = account.integral(samples[: cut + 1]) + account.integral(samples[cut:])
    assert whole == pytest.approx(parts)
    low, high = min(w for _, w in samples), max(w for _, w in samples)
    seconds = samples[-1][0] - samples[0][0]
    assert low * seconds - 1e-6 <= whole <= high * seconds + 1e-6


def test_a_ramp_is_exact_and_time_does_not_run_back() -> None:
    assert account.integral([(0, 0), (2, 10)]) == 10
    with pytest.raises(ValueError, match="run back"):
        account.integral([(2, 1), (1, 1)])


def test_idle_is_taken_off_and_stated() -> None:
    slices = [(60.0, 10.0, 100)] * 12
    found = account.per_inference(slices, [2.0] * 10)
    assert found.joules == pytest.approx(0.4)
    assert found.gross == pytest.approx(0.6)
    assert found.idle_watts == 2.0
    assert found.interval == pytest.approx((0.4, 0.4))


def test_of_few_slices_no_interval_is_told() -> None:
    assert account.per_inference([(60.0, 10.0, 100)] * 3, [2.0] * 10).interval is None


def test_without_idle_nothing_is_told() -> None:
    with pytest.raises(ValueError, match="idle was not measured"):
        account.per_inference([(60.0, 10.0, 100)], [])
    with pytest.raises(ValueError, match="nothing was inferred"):
        account.per_inference([(60.0, 10.0, 0)], [2.0])


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = random.Random(0), 0  # noqa: S311 - no secret
    for _ in range(400):
        idle = [2 + rng.gauss(0, 0.3) for _ in range(12)]
        slices = [((8 + rng.gauss(0, 0.8)) * 10, 10.0, 150) for _ in range(20)]
        found = account.per_inference(slices, idle)
        assert found.interval is not None
        held += found.interval[0] <= 0.4 <= found.interval[1]
    assert 0.92 <= held / 400 <= 0.99


def test_the_guides_battery_and_what_it_forgot() -> None:
    """V.C: 10,000 mAh at 10 V; the 2 W of the system stay when the model takes 6 W."""
    assert account.battery_hours(10_000, 10, 15, 2) == pytest.approx(5.88, abs=0.01)
    assert account.battery_hours(10_000, 10, 6, 2) == 12.5


@pytest.mark.parametrize(
    "figures",
    [(0, 10, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 0, 0), (math.inf, 1, 1, 1)],
)
def test_a_battery_that_cannot_be_is_refused(figures: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"is none|cannot be|for ever"):
        account.battery_hours(*figures)


def test_a_sensor_that_sticks_while_the_load_changes_is_told() -> None:
    samples = [(float(t), 5.0) for t in range(30)]
    assert "seems to stick" in account.stuck(samples, [0.05] * 15 + [0.9] * 15)
    assert account.stuck(samples, [0.9] * 30) == ""  # an even load may draw even watts
    assert account.stuck([(t, w + 0.01 * t) for t, w in samples], [0.05] * 15 + [0.9] * 15) == ""


def test_samples_far_apart_are_told() -> None:
    assert account.gaps([(0, 1), (1, 1), (9, 1)]) == 8
