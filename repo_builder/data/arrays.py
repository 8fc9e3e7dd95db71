"""Arrays in `.npy` files, mapped into memory rather than read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.data.rows import Array, Rows, digests


def read(inputs: Mapping[str, Path], labels: Mapping[str, Path]) -> Rows:
    """The rows of these arrays. DataError for a file that is no plain array, or other lengths."""
    found = {name: _mapped(file) for name, file in {**inputs, **labels}.items()}
    lengths = {name: len(array) for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        rows = ", ".join(f"'{name}' {count}" for name, count in lengths.items())
        raise DataError(f"arrays have different numbers of rows: {rows}; cut the longer")
    arrays = {name: found[name] for name in inputs}
    return Rows(arrays, {name: found[name] for name in labels}, digests(arrays.values()))


def _mapped(file: Path) -> Array:
    try:
        array: Array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as failure:
        raise DataError(f"{file}: {failure.strerror or 'cannot be read'}; check it") from None
    except (ValueError, EOFError):
        raise DataError(f"{file} is no plain array; write it with numpy.save") from None
    if not isinstance(array, np.ndarray) or array.ndim == 0 or len(array) == 0:
        raise DataError(f"{file} has no rows; the first dimension counts the samples")
    return array
