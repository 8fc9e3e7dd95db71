"""How far two models' answers lie apart, output by output and column by column. Pure mathematics.

A run is one call of a model. Answers of several runs come as one array for each run, so that their
shapes are compared as they are. docs/proof.md tells which figure catches what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.steps._columns import Columns, Floats

Array: TypeAlias = npt.NDArray[Any]

CLEAR_MARGIN = 0.1
"""A row has a clear label where its two largest entries differ by this share of its range."""
UNPROVEN = "only NaN in the source, which proves nothing"
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
    sums, columns, labels = _Sums(), Columns(), _Labels(asked=classifier)
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
        return Difference(name, shape=UNPROVEN)
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
