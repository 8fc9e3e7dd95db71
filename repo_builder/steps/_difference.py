"""How far two models' answers lie apart, output by output and column by column. Pure mathematics.

A run is one call of a model. Answers of several runs come as one array for each run, so that their
shapes are compared as they are. docs/proof.md tells which figure catches what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
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
CLEAR_MARGIN = 0.1
"""A row has a clear label where its two largest entries differ by this share of its range."""
LEAST_ROWS = 8
"""Rows with a clear label below which their agreement says nothing."""


@dataclass(frozen=True)
class Difference:
    """How far an output of the built model lies from the source's, over all rows.

    `relative` is the norm of the difference over the norm of the source's output (the root mean
    square of the difference where the source is all 0). `columns` is the same for the worst group
    of columns of like magnitude, against how the source varies in it; `column` for the worst
    single one, `worst` names it. `labels` is the share of rows whose largest entry is another, of
    those where it is clear, None where that is not asked or not known; of integers, booleans and
    words the share that differs. `misplaced` counts values that are NaN or infinite in the built
    model only, or infinite in the source only; where the source is NaN nothing is known. `shape`
    says how shapes or types differ, "" where they are equal; figures are 0 then. `left_out` counts
    runs whose answers have another length, where length depends on the data.
    """

    name: str
    max_abs: float = 0.0
    mean_abs: float = 0.0
    relative: float = 0.0
    cosine: float = 1.0
    columns: float = 0.0
    column: float = 0.0
    worst: str = ""
    labels: float | None = None
    misplaced: int = 0
    shape: str = ""
    left_out: int = 0


def compare(
    name: str,
    source: Sequence[Array],
    built: Sequence[Array],
    *,
    classifier: bool = False,
    same_type: bool = True,
) -> Difference:
    """Compare one output over runs, `source[i]` with `built[i]`.

    `classifier` asks for the agreement of labels along the last axis; rows that are probability
    distributions are taken for a classifier's without being asked. `same_type` False lets numbers
    of another type pass.
    """
    pairs, problem = _pairs(source, built, same_type=same_type)
    if problem:
        return Difference(name, shape=problem)
    left_out = len(source) - len(pairs)
    if source[0].dtype.kind not in "f":
        return _exact(name, pairs, left_out)
    sums, columns, labels = _Sums(), _Columns(), _Labels(asked=classifier)
    for a, b in _chunks(pairs):
        wide, other = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(wide) & np.isfinite(other)
        if not finite.all():
            sums.misplaced += int(np.sum(~finite & (wide != other) & ~np.isnan(wide)))
            sums.unknown += int(np.isnan(wide).sum())
            wide, other = (np.where(finite, x, 0.0) for x in (wide, other))
        sums.add(wide, other)
        columns.add(wide, other)
        labels.add(wide, other)
    if 0 < sums.count == sums.unknown:
        return Difference(name, shape="only NaN in the source, which proves nothing")
    group, column, worst = columns.worst()
    return Difference(
        name,
        max_abs=sums.largest,
        mean_abs=sums.total / max(sums.count, 1),
        relative=sums.relative(),
        cosine=sums.cosine(),
        columns=group,
        column=column,
        worst=worst,
        labels=labels.differing(),
        misplaced=sums.misplaced,
        left_out=left_out,
    )


def _pairs(
    source: Sequence[Array], built: Sequence[Array], *, same_type: bool
) -> tuple[list[tuple[Array, Array]], str]:
    """The runs whose answers can be compared, or what is wrong.

    Another length is no fault where the source's own lengths depend on the data.
    """
    if len(source) != len(built):
        return [], f"{len(built)} answers instead of {len(source)}"
    first, other = source[0].dtype, built[0].dtype
    words = first.kind in "OUS" and other.kind in "OUS"
    if first != other and not words and (same_type or first.kind in "OUS"):
        return [], f"type {other} instead of {first}"
    free = _free_axes(source)
    pairs = []
    for a, b in zip(source, built, strict=True):
        if a.shape == b.shape:
            pairs.append((a, b))
            continue
        fixed = [n for axis, n in enumerate(a.shape) if axis not in free]
        if a.ndim != b.ndim or fixed != [n for i, n in enumerate(b.shape) if i not in free]:
            return [], f"shape {list(b.shape)} instead of {list(a.shape)}"
    if not pairs:
        a, b = source[0], built[0]
        return [], f"shape {list(b.shape)} instead of {list(a.shape)}, on every row"
    return pairs, ""


def _free_axes(source: Sequence[Array]) -> set[int]:
    """The axes whose length differs between runs of the source itself."""
    if len({a.ndim for a in source}) != 1:
        return set()
    return {axis for axis in range(source[0].ndim) if len({a.shape[axis] for a in source}) > 1}


_CHUNK = 1 << 20


def _chunks(pairs: Sequence[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """Runs joined along a new first axis while shapes are equal and they stay small."""
    chunks: list[tuple[Array, Array]] = []
    begin = size = 0
    for index, (a, _) in enumerate(pairs):
        if index > begin and (a.shape != pairs[begin][0].shape or size + a.size > _CHUNK):
            chunks.append(_stacked(pairs[begin:index]))
            begin, size = index, 0
        size += a.size
    chunks.append(_stacked(pairs[begin:]))
    return chunks


def _stacked(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])


def _exact(name: str, pairs: Sequence[tuple[Array, Array]], left_out: int) -> Difference:
    """Integers, booleans and words are equal or not; the size of integers' gaps is told too."""
    unequal = count = 0
    total = largest = 0.0
    for a, b in pairs:
        differs = a != b
        unequal += int(np.sum(differs))
        count += a.size
        if a.dtype.kind in "iu":
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
        else:
            gap = differs.astype(np.float64)
        largest = max(largest, float(gap.max(initial=0.0)))
        total += float(gap.sum())
    share = unequal / max(count, 1)
    return Difference(
        name,
        max_abs=largest,
        mean_abs=total / max(count, 1),
        relative=share,
        cosine=1.0 - share,
        labels=share,
        left_out=left_out,
    )


@dataclass
class _Sums:
    """What is summed over all values of an output."""

    count: int = 0
    largest: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    norm: float = 0.0
    other: float = 0.0
    product: float = 0.0
    misplaced: int = 0
    unknown: int = 0

    def add(self, a: Floats, b: Floats) -> None:
        gap = np.abs(a - b)
        self.count += a.size
        self.largest = max(self.largest, float(gap.max(initial=0.0)))
        self.total += float(gap.sum())
        self.squares += float(np.sum(gap**2))
        self.norm += float(np.sum(a**2))
        self.other += float(np.sum(b**2))
        self.product += float(np.sum(a * b))

    def relative(self) -> float:
        if self.squares == 0.0:
            return 0.0
        return float(np.sqrt(self.squares / (self.norm or self.count)))

    def cosine(self) -> float:
        if self.squares == 0.0:
            return 1.0
        scale = float(np.sqrt(self.norm * self.other))
        return self.product / scale if scale else 0.0


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


class _Columns:
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


class _Labels:
    """Counts rows whose largest entry, where it is clear, is the same on both sides."""

    def __init__(self, *, asked: bool) -> None:
        self._asked = asked
        self._clear = self._differing = 0
        self._plausible = True

    def add(self, a: Floats, b: Floats) -> None:
        """`a`, `b`: [runs, ...]; rows along the last axis, where nothing else varies in a run."""
        if a.ndim < 2 or a.shape[-1] < 2 or a[0].size > 64 * a.shape[-1]:
            self._plausible = False
            return
        a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
        if not self._asked and not _distributions(a):
            self._plausible = False
            return
        top = np.partition(a, -2, axis=1)[:, -2:]
        spread = a.max(axis=1) - a.min(axis=1)
        clear = (top[:, 1] - top[:, 0] >= CLEAR_MARGIN * spread) & (spread > 0)
        self._clear += int(clear.sum())
        self._differing += int(np.sum(a[clear].argmax(axis=1) != b[clear].argmax(axis=1)))

    def differing(self) -> float | None:
        """The share of clear rows that differ; None where these are too few, or no classes."""
        if not self._plausible or self._clear < LEAST_ROWS:
            return None
        return self._differing / self._clear


def _distributions(rows: Floats) -> bool:
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=1e-3))
