"""Ranges of activations for int8, from runs on calibration data, in one pass and bounded memory.

`minmax` keeps all that was seen. `percentile` cuts the tails. `entropy` searches the threshold
whose clipped, re-binned distribution loses the least information: S. Migacz, "8-bit Inference
with TensorRT", GTC 2017. `mse` searches the range that leaves the least mean square error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import StepError
from repo_builder.targets.types import CalibrationMethod

Array: TypeAlias = npt.NDArray[Any]

FILE = "calibration.npz"
"""What a folder of calibration data holds."""

SIDE = 1 << 16
"""Bins on either side of zero; more than are searched, for outliers stretch the histogram."""

SEARCHED = 1 << 11
"""Bins, joined from those, in which the threshold is searched; 2048 as in the talk."""

TRIED = 64
"""Ranges that are tried for the least square error, from all that was seen down to a 64th."""

STRIDE = 4
"""Every fourth of these bins is tried as the threshold; between them the loss hardly moves."""

OUTLIER = (1e-5, 4)
"""All but this share of values, times this factor, bounds the search; see entropy_threshold."""

BULK = 0.05
"""Share of the values other than zero below a gap; fewer are stray values near zero."""

NO_DATA = "int8 needs calibration data; name it in the spec (data: {calibration: ...})"

_SMOOTH = 1e-9
"""Share of the distribution that every empty bin is given, so that no logarithm is infinite."""


class Histogram:
    """Counts of all finite values of a tensor, around zero, with a limit that doubles as needed.

    Doubling joins bins in pairs, which is exact, so values need to be seen only once. `exponents`
    counts values other than zero by the exponent field of float32, however far apart they lie.
    `infinite` says that some values were.
    """

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf
        self.limit = 0.0
        self.counts = np.zeros(2 * SIDE, dtype=np.int64)
        self.exponents = np.zeros(256, dtype=np.int64)
        self.infinite = False

    def add(self, values: Array) -> None:
        """Count `values`, none of which is NaN."""
        finite = np.isfinite(values)
        if not finite.all():
            self.infinite = True
            values = values[finite]
        if not values.size:
            return
        bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.int32)
        found = np.bincount((bits >> 23) & 255, minlength=256)
        found[0] = 0  # zeros
        self.exponents += found
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-low, high)
        if largest > 0 and self.limit == 0:
            self.limit = float(2.0 ** np.ceil(np.log2(largest)))
        while largest > self.limit:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[SIDE // 2 : SIDE // 2 + SIDE] = pairs
            self.limit *= 2
        if self.limit == 0:  # nothing but zeros so far
            self.counts[SIDE] += values.size
            return
        bins = np.floor(values.reshape(-1) * (SIDE / self.limit)).astype(np.int32)
        bins = np.clip(bins + SIDE, 0, 2 * SIDE - 1)
        if bins.size < SIDE:
            np.add.at(self.counts, bins, 1)
        else:
            self.counts += np.bincount(bins, minlength=2 * SIDE)

    @property
    def largest(self) -> float:
        """The largest finite magnitude; 0 where there is none."""
        return max(-self.low, self.high, 0.0)

    @property
    def gap(self) -> int:
        """Powers of two between the many small values and some large ones that no value has.

        A tensor to which a mask of -10000 was added has a wide gap, and int8 would lose its small
        values; what is merely spread wide has values in between.
        """
        used = np.flatnonzero(self.exponents)
        total = self.exponents.sum()
        empty = [
            above - below - 1
            for below, above in pairwise(used.tolist())
            if self.exponents[: below + 1].sum() >= BULK * total
        ]
        return max(empty, default=0)

    @property
    def magnitudes(self) -> Array:
        """Counts of absolute values in `SIDE` bins from 0 to the limit."""
        return np.asarray(self.counts[SIDE:] + self.counts[SIDE - 1 :: -1])

    def quantile(self, share: float) -> float:
        """The value below which `share` of all values lie, straight lines inside bins."""
        total = np.cumsum(self.counts)
        wanted = share * total[-1]
        index = int(np.searchsorted(total, wanted))
        before = total[index - 1] if index else 0
        inside = (wanted - before) / max(self.counts[min(index, len(total) - 1)], 1)
        value = (index - SIDE + inside) * self.limit / SIDE
        return float(np.clip(value, self.low, self.high))


@dataclass(frozen=True)
class Range:
    """The values of a tensor that int8 shall tell apart; others are clipped."""

    low: float
    high: float


def watch(
    names: Iterable[str],
    runs: Iterable[Mapping[str, Array]],
    makers: Mapping[str, str] | None = None,
) -> dict[str, Histogram]:
    """Histograms of the floating-point tensors `names`, over `runs` (tensors of a run by name).

    StepError: a tensor becomes NaN; `makers` says of which node it comes, in words.
    """
    histograms = {name: Histogram() for name in names}
    for number, tensors in enumerate(runs):
        for name, histogram in histograms.items():
            values = tensors[name]
            if values.dtype.kind != "f":
                continue
            if np.isnan(values).any():
                raise StepError(
                    f"'{name}' becomes NaN on calibration row {number}{_after(name, makers)}, "
                    "before anything is quantized; mend the model, or leave such rows out"
                )
            histogram.add(values)
    return {name: h for name, h in histograms.items() if h.low <= h.high or h.infinite}


def _after(name: str, makers: Mapping[str, str] | None) -> str:
    maker = (makers or {}).get(name)
    return f" in {maker}" if maker else ""


def choose(
    histogram: Histogram,
    method: CalibrationMethod,
    percentile: float,
    symmetric: bool,
    bits: int = 8,
) -> Range:
    """The range of one tensor. `percentile` keeps that share in %, half of the rest cut a side.

    With `symmetric` the range will be used from -x to x, so what is cut is cut by magnitude.
    `bits`: it is cut into 2**bits - 1 steps.
    """
    if histogram.low > histogram.high:
        return Range(0.0, 0.0)
    low, high = histogram.low, histogram.high
    if method == "percentile":
        cut = (1 - percentile / 100) / 2
        low, high = histogram.quantile(cut), histogram.quantile(1 - cut)
        if symmetric:
            high = max(-low, high)
            low = -high
    elif method == "entropy" and histogram.limit > 0:
        one_sided = histogram.low >= 0 or histogram.high <= 0
        levels = 256 if one_sided and not symmetric else 128
        threshold = entropy_threshold(histogram.magnitudes, levels) * histogram.limit / SIDE
        low, high = -threshold, threshold
    elif method == "mse":
        low, high = least_square_error(histogram, (1 << bits) - 1, symmetric)
    low, high = max(low, histogram.low), min(high, histogram.high)
    return Range(_settled(min(low, 0.0)), _settled(max(high, 0.0)))  # zero must be exact


def _settled(value: float) -> float:
    """`value` to 5 digits: processors differ in the last bits, and the built bytes must not."""
    return float(f"{value:.4e}")


def least_square_error(histogram: Histogram, steps: int, symmetric: bool) -> tuple[float, float]:
    """The ends, 0 between them, whose `steps` leave the least mean square error of the values.

    Both ends move towards 0 together, in `TRIED` steps; bins stand for the value in their middle.
    """
    used = np.flatnonzero(histogram.counts)
    middle = (used - SIDE + 0.5) * histogram.limit / SIDE
    values = np.where(used == SIDE, 0.0, np.clip(middle, histogram.low, histogram.high))
    counts = histogram.counts[used]
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    best = (np.inf, low, high)
    for share in np.arange(TRIED, 0, -1) / TRIED:
        scale = (high - low) * share / steps
        if scale <= 0:
            break
        zero = np.rint(-low * share / scale)
        integers = np.clip(np.rint(values / scale) + zero, 0, steps)
        error = float(np.dot(counts, ((integers - zero) * scale - values) ** 2))
        if error < best[0]:
            best = (error, low * share, high * share)
    return best[1], best[2]


def entropy_threshold(magnitudes: Array, levels: int) -> int:
    """The number of bins, from zero on, whose quantization to `levels` loses the least (KL).

    What lies further out than `OUTLIER` says is clipped in any case: with it in view, the bins
    would be too coarse to see what is lost inside them.
    """
    counts = magnitudes.astype(np.float64)
    # Zero is exact at any scale: its spike (behind a ReLU: half of all values) would only hide
    # what is lost elsewhere.
    counts[0] = min(counts[0], counts[1])
    if not counts.any():
        return int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else 0
    share, times = OUTLIER
    total = np.cumsum(counts)
    usual = int(np.searchsorted(total, (1 - share) * total[-1])) + 1
    used = min(int(np.flatnonzero(counts)[-1]) + 1, times * usual)
    width = -(-used // SEARCHED)
    padded = np.zeros(width * SEARCHED)
    padded[:used] = counts[:used]
    bins = padded.reshape(-1, width).sum(axis=1)[: -(-used // width)]
    outside = float(total[-1] - total[used - 1])
    beyond = bins.sum() - np.cumsum(bins) + outside
    losses = {end: _loss(bins[:end], beyond[end - 1], levels) for end in _ends(levels, len(bins))}
    return min(min(losses, key=lambda end: losses[end]) * width, used)


def _ends(levels: int, used: int) -> list[int]:
    return [*range(levels, used, STRIDE), used]  # fewer bins than levels: all of them


def _loss(kept: Array, beyond: float, levels: int) -> float:
    """KL divergence of the kept bins, what lies beyond clipped into the last, from their quantized
    form: the bins of a level share its counts equally, and empty bins stay empty.
    """
    level = np.arange(len(kept)) * levels // len(kept)
    full = kept > 0
    sums = np.bincount(level, weights=kept, minlength=levels)
    sharing = np.bincount(level, weights=full, minlength=levels)
    quantized = np.where(full, (sums / np.maximum(sharing, 1))[level], 0.0)
    clipped = kept.copy()
    clipped[-1] += beyond
    p, q = _distribution(clipped), _distribution(quantized)
    return float(np.sum(p * np.log(p / q)))


def _distribution(counts: Array) -> Array:
    shares = counts / max(counts.sum(), 1.0) + _SMOOTH
    return np.asarray(shares / shares.sum())
