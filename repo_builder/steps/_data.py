"""Arrays that models run on: .npz files checked against a model's inputs, or seeded random ones.

Arrays are stacks of rows. Where an array has as many dimensions as the model's input, its first
dimension is the input's own; where it has one more, every entry is a whole input.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, Problem, did_you_mean

Array: TypeAlias = npt.NDArray[Any]

NUMPY_TYPES: Mapping[str, str] = {
    "BOOL": "bool",
    **{
        f"{sign}INT{bits}": f"{sign.lower()}int{bits}"
        for sign in ("U", "")
        for bits in (8, 16, 32, 64)
    },
    "FP16": "float16",
    "BF16": "float32",
    "FP32": "float32",
    "FP64": "float64",
    "STRING": "object",
}
"""Triton's names of element types -> numpy's; BF16, which it lacks, is held as float32."""


@dataclass(frozen=True)
class Samples:
    """Inputs of several runs of one model.

    `arrays` has the rows of every input; one run takes `blocks[name]` rows of an input, or one
    entry without its first dimension where that is 0. All inputs have rows for `runs` runs.
    """

    arrays: Mapping[str, Array]
    blocks: Mapping[str, int]
    runs: int

    def feed(self, run: int) -> dict[str, Array]:
        """The inputs of run number `run`."""
        return {name: self._part(name, array, run) for name, array in self.arrays.items()}

    def _part(self, name: str, array: Array, run: int) -> Array:
        block = self.blocks[name]
        return array[run * block : (run + 1) * block] if block else np.asarray(array[run])

    def first(self, runs: int) -> Samples:
        """The first `runs` runs."""
        arrays = {
            name: array[: runs * max(self.blocks[name], 1)] for name, array in self.arrays.items()
        }
        return Samples(arrays, self.blocks, min(runs, self.runs))

    def take(self, runs: Sequence[int] | npt.NDArray[np.intp]) -> Samples:
        """The runs with these numbers, in this order."""
        arrays = {}
        for name, array in self.arrays.items():
            block = max(self.blocks[name], 1)
            rows = [row for run in runs for row in range(run * block, (run + 1) * block)]
            arrays[name] = array[rows]
        return Samples(arrays, self.blocks, len(runs))

    @property
    def rows(self) -> int:
        """Rows of all runs together."""
        return self.runs * max(max(self.blocks.values(), default=1), 1)


def read(file: Path) -> dict[str, Array]:
    """All arrays of an .npz file. DataError: missing, damaged, or holding Python objects."""
    if not file.is_file():
        raise DataError(f"{file.name} is missing; write it with numpy.savez_compressed")
    try:
        opened = np.load(file, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise DataError(f"{file.name} is a .npy array; write it with numpy.savez_compressed")
        with opened as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as failure:
        objects = "allow_pickle" in str(failure)
        what = "holds Python objects or is no .npz file" if objects else "is damaged"
        raise DataError(
            f"{file.name} {what}; write plain arrays with numpy.savez_compressed"
        ) from failure


def write(file: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz file; equal arrays give equal bytes. Words are stored as text, not objects."""
    plain = {
        name: array.astype(str) if array.dtype.kind == "O" else array
        for name, array in sorted(arrays.items())
    }
    np.savez(file, **plain)


def samples(file: Path, inputs: Sequence[Tensor], count: int | None = None) -> Samples:
    """The first `count` rows (None: all) of every input, checked. DataError with all problems."""
    return check(read(file), inputs, file.name, count)


def check(
    stored: Mapping[str, Array], inputs: Sequence[Tensor], name: str, count: int | None = None
) -> Samples:
    """`stored` as `Samples` for a model with `inputs`; `name` is what errors call the file.

    DataError: an input without an array, wrong type or shape, NaN or infinity, no rows, fewer
    rows than `count`, or arrays that disagree about the number of runs.
    """
    problems: list[Problem] = []
    arrays: dict[str, Array] = {}
    blocks: dict[str, int] = {}
    for tensor in inputs:
        if tensor.name not in stored:
            if not tensor.optional:
                fix = did_you_mean(tensor.name, set(stored) - {other.name for other in inputs})
                problems.append(
                    Problem(f"no array '{tensor.name}'; the model needs {_expected(tensor)}", fix)
                )
            continue
        array = stored[tensor.name]
        found = list(_array_problems(tensor, array, count))
        problems += found
        if not found:
            stacked = array.ndim == len(tensor.shape) + 1
            first = tensor.shape[0] if tensor.shape else 1
            blocks[tensor.name] = 0 if stacked else first if isinstance(first, int) else 1
            arrays[tensor.name] = array[:count]
    runs = {key: _runs(arrays[key], blocks[key]) for key in arrays}
    if not problems and len(set(runs.values())) > 1:
        rows = ", ".join(f"'{key}' {len(arrays[key])}" for key in arrays)
        problems.append(Problem(f"arrays have different numbers of rows: {rows}", "cut the longer"))
    if problems:
        raise DataError(f"{name} does not fit the model:", [_in_file(p, name) for p in problems])
    return Samples(arrays, blocks, next(iter(runs.values()), 1))


def labels(
    stored: Mapping[str, Array],
    wanted: Mapping[str, str],
    rows: int,
    name: str,
    all_rows: bool,
    *,
    constants: Collection[str] = (),
) -> dict[str, Array]:
    """What a metric calls its labels -> the first `rows` rows of the array that holds them.

    With `all_rows` the array must have no more rows than that; `constants` come whole.
    """
    problems = []
    found = {}
    for label, key in wanted.items():
        if key not in stored:
            what = f"no array '{key}' for the metric's '{label}'"
            problems.append(Problem(what, did_you_mean(key, stored)))
        elif label in constants:
            found[label] = stored[key]
        elif (have := len(np.atleast_1d(stored[key]))) < rows or (all_rows and have != rows):
            problems.append(
                Problem(f"'{key}' has {have} labels for {rows} rows", "save one label a row")
            )
        else:
            found[label] = stored[key][:rows]
    if problems:
        raise DataError(f"{name} does not fit the metric:", [_in_file(p, name) for p in problems])
    return found


def numpy_type(tensor: Tensor) -> np.dtype[Any]:
    """The numpy type that holds a tensor."""
    return np.dtype(NUMPY_TYPES[tensor.dtype])


def _array_problems(tensor: Tensor, array: Array, count: int | None) -> list[Problem]:
    name = f"'{tensor.name}'"
    dtype = numpy_type(tensor)
    problems = []
    if array.dtype != dtype and not (dtype.kind == "O" and array.dtype.kind in "US"):
        problems.append(
            Problem(f"{name} is {array.dtype}, not {dtype}", f"convert it with .astype('{dtype}')")
        )
    if (problem := _shape_problem(tensor, array)) is not None:
        return [*problems, problem]
    if len(array) == 0:
        return [*problems, Problem(f"{name} is empty", "save at least one row")]
    if count is not None and len(array) < count:
        fix = "save more rows or ask for fewer samples"
        problems.append(Problem(f"{name} has {len(array)} rows, {count} samples are asked", fix))
    first = tensor.shape[0] if array.ndim == len(tensor.shape) and tensor.shape else 1
    if isinstance(first, int) and len(array[:count]) % first:
        problems.append(
            Problem(
                f"{name} has {len(array[:count])} rows; the model takes {first} at once",
                f"use a multiple of {first}",
            )
        )
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if bad.any():
            rows = np.flatnonzero(bad)
            problems.append(
                Problem(
                    f"{name} has NaN or infinity in {len(rows)} rows, first row {rows[0]}",
                    "remove these rows",
                )
            )
    return problems


def _shape_problem(tensor: Tensor, array: Array) -> Problem | None:
    rank = len(tensor.shape)
    expected = tensor.shape[1:] if array.ndim == rank else tensor.shape
    fits = array.ndim == rank + 1 or (array.ndim == rank and rank > 0)
    if fits and all(
        want == have
        for want, have in zip(expected, array.shape[1:], strict=True)
        if isinstance(want, int)
    ):
        return None
    return Problem(
        f"'{tensor.name}' has shape {_shape(array.shape)}, the model needs {_expected(tensor)}",
        "rows first, then the model's own dimensions",
    )


def _runs(array: Array, block: int) -> int:
    return len(array) // max(block, 1)


def _expected(tensor: Tensor) -> str:
    return f"{tensor.dtype} {_shape(tensor.shape)}"


def _shape(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(str(size) if size != "" else "?" for size in shape) + "]"


def _in_file(problem: Problem, file: str) -> Problem:
    return Problem(problem.what, problem.fix, file)
