"""What samples of power amount to: joules, joules for one inference, hours of a battery.

Pure: samples in, figures out. Nothing that was not measured is filled in; what speaks against a
figure is told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from repo_builder.base import statistics
from repo_builder.base.statistics import Interval

Sample = tuple[float, float]
"""(seconds, watts)."""

CONFIDENCE = 0.95
STUCK_SAMPLES, STUCK_S = 20, 10.0
"""So many equal samples over so many seconds are suspicious, while the load changes."""
STUCK_LOAD = 0.3
"""A change of the CPUs' load (0..1) that any sensor of power must follow."""
LONGEST_GAP_S = 5.0
"""Between samples farther apart nobody knows what was drawn."""


@dataclass(frozen=True)
class PerInference:
    """Joules of one inference above idle, with a 95 % interval; None of too few slices.

    `gross` is all that was drawn, `idle_watts` what is drawn when nobody asks: what was taken off.
    """

    joules: float
    interval: Interval | None
    gross: float
    idle_watts: float
    slices: int


def integral(samples: Sequence[Sample]) -> float:
    """Joules, by trapezoids between samples. ValueError where they do not follow in time."""
    total = 0.0
    for (t0, w0), (t1, w1) in pairwise(samples):
        if t1 < t0:
            raise ValueError(f"samples run back from {t0:g} s to {t1:g} s")
        total += (t1 - t0) * (w0 + w1) / 2
    return total


def gaps(samples: Sequence[Sample]) -> float:
    """Seconds between samples that are too far apart to be integrated over."""
    return sum(t1 - t0 for (t0, _), (t1, _) in pairwise(samples) if t1 - t0 > LONGEST_GAP_S)


def per_inference(
    slices: Sequence[tuple[float, float, int]], idle_watts: Sequence[float]
) -> PerInference:
    """Joules of one inference, from slices of (joules, seconds, inferences) and idle slices' watts.

    Slices are long against a sample, so that they hardly depend on each other. The idle's variance
    adds to the load's. ValueError where nothing was inferred or idle was not measured.
    """
    if not idle_watts:
        raise ValueError("idle was not measured: what an inference adds is not known")
    used = [one for one in slices if one[2] > 0]
    if not used:
        raise ValueError("nothing was inferred while it was measured")
    idle = fmean(idle_watts)
    seconds = sum(s for _, s, _ in used) / sum(n for _, _, n in used)
    gross = sum(j for j, _, _ in used) / sum(n for _, _, n in used)
    loaded = statistics.of_mean([(j - idle * s) / n for j, s, n in used], CONFIDENCE)
    resting = statistics.of_mean(list(idle_watts), CONFIDENCE)
    net = gross - idle * seconds
    if loaded is None or resting is None:
        return PerInference(net, None, gross, idle, len(used))
    half = math.hypot((loaded[1] - loaded[0]) / 2, (resting[1] - resting[0]) / 2 * seconds)
    return PerInference(net, (net - half, net + half), gross, idle, len(used))


def battery_hours(
    capacity_mah: float, volts: float, model_watts: float, idle_watts: float
) -> float:
    """Hours that a battery lasts: mAh x V / 1000 is Wh, over all watts that are drawn.

    The system's own watts stay whatever the model takes: the guide's battery of 100 Wh lasts 5.9 h
    at 15 + 2 W as it says, but 12.5 h at 6 + 2 W, where it says 16.7 h. ValueError for a figure
    that cannot be.
    """
    for name, value in (("capacity", capacity_mah), ("voltage", volts)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"a {name} of {value:g} is none")
    for name, value in (("model's watts", model_watts), ("idle watts", idle_watts)):
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{value:g} cannot be the {name}")
    if model_watts + idle_watts == 0:
        raise ValueError("nothing is drawn, so the battery lasts for ever: measure the watts")
    return capacity_mah * volts / 1000 / (model_watts + idle_watts)


def stuck(samples: Sequence[Sample], loads: Sequence[float | None]) -> str:
    """Why a sensor seems to stick; "" where it does not, or where the load was as even.

    `loads` are the CPUs' (0..1), one a sample.
    """
    begin = 0
    for end in range(1, len(samples) + 1):
        if end < len(samples) and samples[end][1] == samples[begin][1]:
            continue
        seconds = samples[end - 1][0] - samples[begin][0]
        known = [load for load in loads[begin:end] if load is not None]
        if end - begin >= STUCK_SAMPLES and seconds >= STUCK_S and known:
            low, high = min(known), max(known)
            if high - low >= STUCK_LOAD:
                return (
                    f"{samples[begin][1]:.4g} W {end - begin} times in {seconds:.0f} s while the "
                    f"CPUs' load went from {low:.0%} to {high:.0%}: the sensor seems to stick"
                )
        begin = end
    return ""
