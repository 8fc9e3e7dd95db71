"""Folders of images, turned into what a model takes by the client's own code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, Problem, did_you_mean
from repo_builder.client.models.preprocess import Preprocess
from repo_builder.data import write
from repo_builder.data.rows import Array, Rows, digests, encoded, refuse

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def read(
    folder: Path,
    recipe: Preprocess,
    dtype: str,
    table: Mapping[str, str] | None,
    label_name: str,
    scratch: Path,
) -> Rows:
    """The images of `folder` as [n, C, H, W] or [n, H, W, C] of `dtype`, or as the model is sent.

    Labels are those of `table`, by file name; else the names of the folders in `folder`, as
    numbers in sorted order; none where images lie in `folder` itself. The array is a file in
    `scratch`, so that memory holds one image. DataError with all images that cannot be read.
    """
    files = _files(folder, table)
    if recipe.place == "graph":
        # One size for all: that of the camera, else as they are resized for the net.
        recipe, dtype = dataclasses.replace(recipe, source=recipe.source or recipe.size), "uint8"
    shape = recipe.source or recipe.size, recipe.channels
    last = recipe.layout == "NHWC" or recipe.place == "graph"
    row = (*shape[0], shape[1]) if last else (shape[1], *shape[0])
    size = int(np.prod(row)) * np.dtype(dtype).itemsize * len(files)
    write.need_space(scratch, 2 * size)
    file_format: Any = np.lib.format  # untyped in numpy
    array = file_format.open_memmap(
        scratch / "images.npy", mode="w+", dtype=np.dtype(dtype), shape=(len(files), *row)
    )
    problems: list[Problem] = []
    for number, file in enumerate(files):
        try:
            array[number] = recipe.sent(file.read_bytes(), dtype)[0][0]
        except (OSError, ValueError) as failure:
            what = failure.strerror if isinstance(failure, OSError) else str(failure)
            problems.append(Problem(what or "cannot be read", "", str(file)))
    refuse(str(folder), problems)
    inputs = {recipe.input: array}
    if not any(files.values()):
        return Rows(inputs, {}, digests([array]))
    numbers, classes = _numbered(list(files.values()), table)
    return Rows(inputs, {label_name: numbers}, digests([array]), classes)


@dataclasses.dataclass(frozen=True)
class Some:
    """A few labelled images of a folder, as many of every class, and the number of each's class."""

    files: tuple[Path, ...]
    label: Array
    classes: tuple[str, ...]

    def apply(self, recipe: Preprocess, dtype: str) -> Array:
        """The images as the recipe prepares them, [n, ...]. DataError where one cannot be read."""
        problems: list[Problem] = []
        made = []
        for file in self.files:
            try:
                made.append(recipe.apply(file.read_bytes(), dtype)[0])
            except (OSError, ValueError) as failure:
                problems.append(Problem(str(failure), "", str(file)))
        refuse("the folder", problems)
        return np.stack(made)


def some(folder: Path, table: Mapping[str, str] | None, most: int) -> Some:
    """About `most` images, classes in turn; classes are numbered as by `read`."""
    files = _files(folder, table)
    numbers, classes = _numbered(list(files.values()), table)
    order: dict[int, list[Path]] = {}
    for file, number in zip(files, numbers.tolist(), strict=True):
        order.setdefault(number, []).append(file)
    each = max(1, most // max(len(order), 1))
    chosen = [(file, number) for number, found in order.items() for file in found[:each]]
    label = np.array([number for _, number in chosen], np.int64)
    return Some(tuple(file for file, _ in chosen), label, classes)


def _numbered(labels: list[str], table: Mapping[str, str] | None) -> tuple[Array, tuple[str, ...]]:
    """The number of each label's class, and the classes; none where there are no labels."""
    if not any(labels):
        return np.zeros(len(labels), np.int64), ()
    if table is not None:
        return encoded(labels)
    classes = tuple(sorted(set(labels)))  # folders are classes, whatever their names: 7/ may be 0
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in labels], np.int64), classes


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
        deeper = next((p for p in sorted(folder.glob("*/*")) if p.is_dir() and _images(p)), None)
        if deeper is not None:
            raise DataError(
                f"{folder}: images lie a folder deeper; name the one whose folders are the classes,"
                f" such as {deeper.parent}"
            )
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)}) in it or its folders")
    return found or dict.fromkeys(direct, "")


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def fitting(inputs: Sequence[Tensor]) -> dict[str, Any]:
    """What the shape of a model's only input says of `preprocess`; {} where it takes no images.

    [n, c, h, w] or [n, h, w, c] with 1 or 3 channels; `size` only where both sides are fixed.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return {}
    shape = inputs[0].shape
    last = shape[1] not in (1, 3)
    if shape[3 if last else 1] not in (1, 3):
        return {}
    values: dict[str, Any] = {"input": inputs[0].name}
    if last:
        values["layout"] = "NHWC"
    if shape[3 if last else 1] == 1:
        values["color"] = "gray"
    sides = shape[1:3] if last else shape[2:]
    if all(isinstance(side, int) for side in sides):
        values["size"] = list(sides)
    return values


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
