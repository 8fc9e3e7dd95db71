"""Proof by running: a rewritten model must answer as the one before it, on the same rows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.steps import _onnx, _runtimes
from repo_builder.steps._data import Array, Samples

if TYPE_CHECKING:
    from onnx import ModelProto

RUNS = 4
"""Runs that a rewrite is proven on: a wrong rewrite is wrong on nearly every row."""

LIMIT = 1e-3
"""Largest relative error of a rewrite in fp32: other orders of summation stay below 1e-4."""

Answers = Sequence[Mapping[str, Array]]


def answers(folder: Path, samples: Samples, *, optimize: bool = True, runs: int = RUNS) -> Answers:
    """The outputs of the model in `folder` on the first runs of `samples`, in ONNX Runtime."""
    runner = _runtimes.load(folder, "onnxruntime", _runtimes.Options(optimize=optimize))
    return [runner.run(samples.feed(run)) for run in range(min(runs, samples.runs))]


def answers_of(model: ModelProto, samples: Samples, *, runs: int = RUNS) -> Answers:
    """As `answers`, of a model in memory, which stays as it is."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(copy, Path(scratch))
        return answers(Path(scratch), samples, runs=runs)


def difference(before: Answers, after: Answers) -> str:
    """How answers differ by more than `LIMIT`, or ""."""
    for name in before[0]:
        for old, new in zip(before, after, strict=True):
            if old[name].shape != new[name].shape:
                return (
                    f"'{name}' has the shape {list(new[name].shape)}, not {list(old[name].shape)}"
                )
        error = relative([run[name] for run in before], [run[name] for run in after])
        if not error <= LIMIT:
            return f"'{name}' changes by {error:.2g} of its norm"
    return ""


def largest(before: Answers, after: Answers) -> float:
    """The largest relative error of an output."""
    return max(
        relative([run[name] for run in before], [run[name] for run in after]) for name in before[0]
    )


def relative(before: Sequence[Array], after: Sequence[Array]) -> float:
    """The norm of the difference over the norm of `before`; infinite where only one is finite."""
    squares = norm = 0.0
    for old, new in zip(before, after, strict=True):
        if old.dtype.kind not in "fiub":
            squares += float(np.sum(old != new))
            continue
        a, b = old.astype(np.float64), new.astype(np.float64)
        norm += float(np.sum(np.nan_to_num(a, posinf=0, neginf=0) ** 2))
        unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
        gap = a[unequal] - b[unequal]
        if not np.isfinite(gap).all():
            return float("inf")
        squares += float(np.sum(gap**2))
    if squares == 0:
        return 0.0
    return float(np.sqrt(squares / norm)) if norm else float("inf")
