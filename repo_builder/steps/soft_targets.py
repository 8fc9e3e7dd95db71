"""`soft-targets`: what a teacher answers to the rows that another net is trained on, once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base import progress
from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, did_you_mean
from repo_builder.nets.losses import LOGITS
from repo_builder.steps import _data, _inner, _onnx, _runtimes, _training
from repo_builder.steps._data import Array

_TOLD = 500
"""Rows between two reports of progress."""


@dataclass(frozen=True)
class Params:
    """`output`: the teacher's of logits, "" for its first. `features`: tensors of its ONNX."""

    output: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """`model`: the teacher, imported. `data`: a folder with `train.npz`."""

    model: Path
    data: Path


@dataclass(frozen=True)
class Facts:
    """How many `rows` it answered, and the `shapes` of what it said of one, by tensor."""

    rows: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `teacher.npy`, and `teacher.N.npy` for feature number N: a row for each of the data's.

    DataError: the data do not fit the teacher, it has no such tensor, or gives no row for a row.
    ModelError: it fails.
    """
    runner = _runtimes.load(inputs.model, "onnxruntime")
    names = [_known(params.output or runner.outputs[0].name, runner.outputs), *params.features]
    model = _onnx.load(inputs.model)
    known = {value for node in model.graph.node for value in node.output}
    for name in params.features:
        if name not in known:
            hint = did_you_mean(name, known)
            raise DataError(f"the teacher's ONNX has no tensor '{name}'; {hint}")
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        stored = _training.mapped(inputs.data / _training.TRAIN, Path(scratch) / "train")
        samples = _data.check(stored, runner.inputs, _training.TRAIN)
        block = max(samples.blocks.values())
        rows = samples.runs * max(block, 1)
        files = [LOGITS, *(_training.feature(number) for number in range(len(params.features)))]
        written: list[Array] = []
        for run, values in enumerate(_inner.values(model, names, samples, optimize=True)):
            found = [_rows(values[name], name, block) for name in names]
            if not written:
                written = [
                    _open(out / f"{file}.npy", rows, array)
                    for file, array in zip(files, found, strict=True)
                ]
            for array, values_of_rows in zip(written, found, strict=True):
                array[run * max(block, 1) : (run + 1) * max(block, 1)] = values_of_rows
            if run % _TOLD == 0:
                progress.tell(f"row {run * max(block, 1)}/{rows}")
        shapes = {name: a.shape[1:] for name, a in zip(names, written, strict=True)}
    if not np.isfinite(written[0]).all():
        raise DataError("the teacher answers NaN or infinity; look at it, and at the rows")
    return Facts(rows, shapes)


def _known(name: str, outputs: tuple[Tensor, ...]) -> str:
    names = [tensor.name for tensor in outputs]
    if name not in names:
        raise DataError(f"the teacher has no output '{name}'; {did_you_mean(name, names)}")
    return name


def _rows(values: Array, name: str, block: int) -> Array:
    """What the teacher said, with one row an entry."""
    if block == 0:
        return values[None]
    if values.ndim == 0 or len(values) != block:
        shape = list(values.shape)
        raise DataError(f"the teacher's '{name}' is {shape} for {block} rows; it needs as many")
    return values


def _open(file: Path, rows: int, first: Array) -> Array:
    """A new .npy file for so many rows like those of `first`, mapped."""
    from numpy.lib import format as numpy_format

    npy: Any = numpy_format
    mapped: Array = npy.open_memmap(file, "w+", np.float32, (rows, *first.shape[1:]))
    return mapped
