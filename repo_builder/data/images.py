"""Folders of images, turned into what a model takes by the client's own code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base.errors import DataError, Problem, did_you_mean
from repo_builder.client.models.preprocess import Preprocess
from repo_builder.data import write
from repo_builder.data.rows import Rows, digests, encoded, refuse

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def read(
    folder: Path,
    recipe: Preprocess,
    dtype: str,
    table: Mapping[str, str] | None,
    label_name: str,
    scratch: Path,
) -> Rows:
    """The images of `folder` as [n, C, H, W] or [n, H, W, C] of `dtype`.

    Labels are those of `table`, by file name; else the names of the folders in `folder`, as
    numbers in sorted order; none where images lie in `folder` itself. The array is a file in
    `scratch`, so that memory holds one image. DataError with all images that cannot be read.
    """
    files = _files(folder, table)
    shape = recipe.size, recipe.channels
    row = (shape[1], *shape[0]) if recipe.layout == "NCHW" else (*shape[0], shape[1])
    size = int(np.prod(row)) * np.dtype(dtype).itemsize * len(files)
    write.need_space(scratch, 2 * size)
    file_format: Any = np.lib.format  # untyped in numpy
    array = file_format.open_memmap(
        scratch / "images.npy", mode="w+", dtype=np.dtype(dtype), shape=(len(files), *row)
    )
    problems: list[Problem] = []
    for number, file in enumerate(files):
        try:
            array[number] = recipe.apply(file.read_bytes(), dtype)[0]
        except (OSError, ValueError) as failure:
            what = failure.strerror if isinstance(failure, OSError) else str(failure)
            problems.append(Problem(what or "cannot be read", "", str(file)))
    refuse(str(folder), problems)
    inputs = {recipe.input: array}
    if not any(files.values()):
        return Rows(inputs, {}, digests([array]))
    if table is None:  # folders are classes, whatever their names: 7/ may be the first
        classes = tuple(sorted(set(files.values())))
        numbers = np.array([classes.index(name) for name in files.values()], np.int64)
    else:
        numbers, classes = encoded(list(files.values()))
    return Rows(inputs, {label_name: numbers}, digests([array]), classes)


def _files(folder: Path, table: Mapping[str, str] | None) -> dict[Path, str]:
    """Image -> its label, "" where there are none; in the order of names."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name one with images in it")
    if table is not None:
        missing = [name for name in table if not (folder / name).is_file()]
        refuse(str(folder), [Problem("no such image", "", str(folder / n)) for n in missing])
        return {folder / name: label for name, label in sorted(table.items())}
    direct = _images(folder)
    kinds = [path for path in sorted(folder.iterdir()) if path.is_dir() and _images(path)]
    if direct and kinds:
        raise DataError(
            f"{folder}: images lie in it and in its folders; move them into one folder per class"
        )
    found = {image: kind.name for kind in kinds for image in _images(kind)}
    if not direct and not found:
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)}) in it or its folders")
    return found or dict.fromkeys(direct, "")


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def recipe(values: Mapping[str, object]) -> Preprocess:
    """`values` as a recipe; DataError where they are none."""
    known = {field.name for field in dataclasses.fields(Preprocess)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise DataError(f"preprocess.{unknown[0]}: unknown; {did_you_mean(unknown[0], known)}")
    tuples = {
        key: tuple(value) for key, value in values.items() if isinstance(value, (list, tuple))
    }
    try:
        made: Preprocess = Preprocess(**{**values, **tuples})  # type: ignore[arg-type]
    except (TypeError, ValueError) as failure:
        raise DataError(str(failure)) from None
    return made
