"""`.npz` files, streamed row by row: equal arrays give equal bytes, and memory stays small."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base.errors import OutputError, disk_fix
from repo_builder.data.rows import Array

_FORMAT: Any = np.lib.format  # untyped in numpy
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a ZIP file can hold; the clock is no part of the data."""


def refuse_existing(files: Sequence[Path], *, force: bool) -> None:
    """OutputError with the first of `files` that exists, unless `force`."""
    for file in files:
        if file.exists() and not force:
            raise OutputError(f"{file} exists; name a folder with --out, or replace it by --force")


def need_space(folder: Path, size: int) -> None:
    """OutputError where the disk of `folder` has not `size` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OutputError(
            f"{folder}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free;"
            " free some space, or bring less data"
        )


def write(files: Mapping[Path, tuple[Mapping[str, Array], Sequence[int]]]) -> None:
    """Write each file with these rows of its arrays, in this order.

    Files appear by rename, once all of them are whole. OutputError where a disk refuses.
    """
    made: dict[Path, Path] = {}
    try:
        for file, (arrays, rows) in files.items():
            handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
            made[file] = Path(name)
            with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
                for key in sorted(arrays):
                    _write_array(archive, key, arrays[key], rows)
            made[file].chmod(0o644)
        for file, whole in made.items():
            whole.replace(file)
    except OSError as failure:
        raise OutputError(
            f"{failure.filename or 'data'}: {failure.strerror}; {disk_fix(failure)}"
        ) from None
    finally:
        for whole in made.values():
            whole.unlink(missing_ok=True)


def _write_array(archive: zipfile.ZipFile, name: str, array: Array, rows: Sequence[int]) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    header = {
        "descr": _FORMAT.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": (len(rows), *array.shape[1:]),
    }
    with archive.open(entry, "w", force_zip64=True) as stream:
        _FORMAT.write_array_header_1_0(stream, header)
        for row in rows:
            stream.write(np.ascontiguousarray(array[row]).tobytes())
