"""How far columns of an output lie from the source's, against how the source varies in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

MOST_COLUMNS = 4096
"""Axes that are longer hold positions, not columns of different meaning."""
LEAST_VALUES = 16
"""Values of a column below which it is not known how it varies."""
GAP = 8.0
"""Columns whose peaks lie further apart are groups of their own: boxes in pixels beside scores."""
MEAN_SHARE = 1 / 16
"""A column that hardly varies is measured against this share of its mean."""
UNIT_STEP = 1 / 256
"""Values in -1..1 (scores, probabilities) mean nothing below this: the step of 8 bits."""


@dataclass
class _Axis:
    """Sums for each column along one axis of a run's answer."""

    count: int = 0
    total: Floats = field(default_factory=lambda: np.zeros(0))
    squares: Floats = field(default_factory=lambda: np.zeros(0))
    errors: Floats = field(default_factory=lambda: np.zeros(0))
    peak: Floats = field(default_factory=lambda: np.zeros(0))

    def add(self, a: Floats, b: Floats) -> None:
        """`a`, `b`: [values, columns]."""
        if not self.count:
            self.total, self.squares, self.errors, self.peak = (
                np.zeros(a.shape[1]) for _ in range(4)
            )
        self.count += len(a)
        self.total += a.sum(axis=0)
        self.squares += (a**2).sum(axis=0)
        self.errors += ((a - b) ** 2).sum(axis=0)
        self.peak = np.maximum(self.peak, np.abs(a).max(axis=0, initial=0.0))

    def scale(self) -> Floats:
        """The square of what an error in each column is measured against; see `MEAN_SHARE`."""
        mean = self.total / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0.0)
        unit = np.where(self.peak <= 1.0, UNIT_STEP**2, 0.0)
        return np.asarray(variance + (MEAN_SHARE * mean) ** 2 + unit)

    def worst(self) -> tuple[float, float, int]:
        """The worst group's error, the worst column's, and which column that is."""
        scale, errors = self.scale(), self.errors / self.count
        worst_group = worst_column = 0.0
        where = 0
        for group in groups(self.peak):
            allowed = float(scale[group].mean())
            worst_group = max(worst_group, float(np.sqrt(errors[group].mean() / allowed)))
            alone = np.sqrt(errors[group] / np.maximum(scale[group], allowed / 4))
            if alone.max() > worst_column:
                worst_column = float(alone.max())
                where = int(group[alone.argmax()])
        return worst_group, worst_column, where


def groups(peaks: Floats) -> list[npt.NDArray[np.intp]]:
    """Columns by magnitude: numbers of those whose `peaks`, sorted, lie no `GAP` apart.

    Columns that are all 0 are in no group.
    """
    order = np.argsort(peaks, kind="stable")
    order = order[peaks[order] > 0]
    if not len(order):
        return []
    ratios = peaks[order[1:]] / peaks[order[:-1]]
    return list(np.split(order, np.flatnonzero(ratios > GAP) + 1))


class Columns:
    """Columns along the second and the last axis of a run's answer, or the only one."""

    def __init__(self) -> None:
        self._axes: dict[int, _Axis] | None = None

    def add(self, a: Floats, b: Floats) -> None:
        """`a`, `b`: [runs, ...the shape of an answer]."""
        if self._axes is None:
            candidates = {1, a.ndim - 2} if a.ndim > 2 else {0} if a.ndim == 2 else set()
            self._axes = {axis: _Axis() for axis in sorted(candidates)}
        for axis, sums in list(self._axes.items()):
            size = a.shape[axis + 1]
            if not 2 <= size <= MOST_COLUMNS or (sums.count and size != len(sums.total)):
                del self._axes[axis]
                continue
            sums.add(*(np.moveaxis(x, axis + 1, -1).reshape(-1, size) for x in (a, b)))

    def worst(self) -> tuple[float, float, str]:
        """The worst figures over the axes, and the worst column in words."""
        group = column = 0.0
        name = ""
        for axis, sums in (self._axes or {}).items():
            if sums.count < LEAST_VALUES:
                continue
            of_group, of_column, where = sums.worst()
            group = max(group, of_group)
            if of_column > column:
                column, name = of_column, f"column {where} of dimension {axis}"
        return group, column, name
