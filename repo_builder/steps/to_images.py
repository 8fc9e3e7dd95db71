"""`to-images`: data for a model that takes images; rows that are its net's inputs are turned back.

A recipe's last part, from pixels of its own size to the net's input, can be undone: what was made
of 8 bits gives just these bits again. Rows for which that is not so are refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.client.models.preprocess import Preprocess
from repo_builder.steps import _data
from repo_builder.steps._data import Array

_APART = 0.05
"""How far a row may lie from the pixel that it is taken for, in steps of 255."""


@dataclass(frozen=True)
class Params:
    """`recipe`: fields of `Preprocess`."""

    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """`data`: a folder with an .npz file, and other files that are copied."""

    data: Path


@dataclass(frozen=True)
class Facts:
    """How many rows were inputs of the net."""

    turned_back: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write every file again, rows as uint8 [n, height, width, channels].

    DataError: rows that are neither images nor what the recipe makes of images.
    """
    recipe = Preprocess.from_json(json.dumps(params.recipe))
    turned = 0
    for file in sorted(inputs.data.iterdir()):
        arrays = _data.read(file) if file.suffix == ".npz" else {}
        rows = arrays.get(recipe.input)
        if rows is None or _are_images(rows, recipe, file.name):
            shutil.copyfile(file, out / file.name)
            continue
        _data.write(
            out / file.name, {**arrays, recipe.input: _turned_back(rows, recipe, file.name)}
        )
        turned += len(rows)
    return Facts(turned)


def _are_images(rows: Array, recipe: Preprocess, file: str) -> bool:
    if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[3] != recipe.channels:
        return False
    if recipe.source and rows.shape[1:3] != recipe.source:
        raise DataError(
            f"{file}: '{recipe.input}' has images of {_by(rows.shape[1:3])} pixels; "
            f"the model takes {_by(recipe.source)}, see preprocess.source"
        )
    return True


def _turned_back(rows: Array, recipe: Preprocess, file: str) -> Array:
    """The pixels that the recipe made these rows of."""
    height, width = recipe.source or ("height", "width")
    form = f"uint8 [n, {height}, {width}, {recipe.channels}]"
    fix = f"give {form}, as `repo-builder data from-images` writes"
    shape = (*recipe.size, recipe.channels)
    if recipe.layout == "NCHW":
        shape = (recipe.channels, *recipe.size)
    what = f"{file}: '{recipe.input}' is {rows.dtype} {list(rows.shape)}"
    if rows.shape[1:] != shape or rows.dtype.kind not in "fiu":
        raise DataError(f"{what}, neither images nor the net's inputs; {fix}")
    if recipe.source not in (None, recipe.size):
        raise DataError(f"{what}: inputs of the net, of which no larger images can be made; {fix}")
    values = rows.astype(np.float64)
    if recipe.layout == "NCHW":
        values = values.transpose(0, 2, 3, 1)
    pixels = values * np.asarray(recipe.std or 1.0) + np.asarray(recipe.mean or 0.0)
    pixels /= recipe.scale
    if recipe.color == "bgr":
        pixels = pixels[..., ::-1]
    whole = np.clip(np.rint(pixels), 0, 255)
    apart = float(np.abs(pixels - whole).max(initial=0.0))
    if not apart <= _APART:  # also NaN
        raise DataError(
            f"{what}: not what the recipe makes of 8-bit pixels ({apart:.3g} of 255 off); {fix}"
        )
    return np.ascontiguousarray(whole.astype(np.uint8))


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size[::-1]))
