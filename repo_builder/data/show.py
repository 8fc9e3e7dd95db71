"""What a data file holds: names, types, shapes, ranges, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.data.rows import Array
from repo_builder.steps import _data

_CLASSES = 1000
"""Different whole numbers or words up to which an array may hold classes."""


@dataclass(frozen=True)
class Shown:
    """An array of a data file.

    `least`, `most` and `mean` are over its finite numbers, None where it has none; `not_finite`
    counts NaN and infinity. `counts` has the rows of each class where it holds one a row, the most
    frequent first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    least: float | None = None
    most: float | None = None
    mean: float | None = None
    not_finite: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


def show(file: Path) -> list[Shown]:
    """The arrays of an `.npz` or `.npy` file, by name. DataError where it is none."""
    if file.suffix == ".npy":
        return [_of("", _mapped(file))]
    return [_of(name, array) for name, array in sorted(_data.read(file).items())]


def _mapped(file: Path) -> Array:
    try:
        array: Array = np.load(file, allow_pickle=False)
    except OSError as failure:
        raise DataError(f"{file}: {failure.strerror or 'cannot be read'}; check it") from None
    except (ValueError, EOFError):
        raise DataError(f"{file} is no plain array; write it with numpy.save") from None
    return array


def _of(name: str, array: Array) -> Shown:
    found = Shown(name, str(array.dtype), array.shape, counts=_counts(array))
    if array.dtype.kind not in "fiub" or not array.size:
        return found
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if not finite.size:
        return Shown(name, found.dtype, found.shape, not_finite=array.size)
    return Shown(
        name,
        found.dtype,
        found.shape,
        float(finite.min()),
        float(finite.max()),
        float(finite.mean(dtype=np.float64)),
        array.size - finite.size,
        found.counts,
    )


def _counts(array: Array) -> dict[str, int]:
    """Rows of each class, {} where the array is not one whole number or word a row."""
    if array.dtype.kind not in "iubUS" or not array.ndim or math.prod(array.shape) != len(array):
        return {}
    values, counts = np.unique(array, return_counts=True)
    if len(values) > _CLASSES or not len(values):
        return {}
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return {str(value): count for value, count in sorted(pairs, key=lambda pair: -pair[1])}
