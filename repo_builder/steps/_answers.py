"""A model's answers over several runs: each run's arrays as they came, kept with their shapes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from repo_builder.base.errors import ModelError
from repo_builder.steps import _data
from repo_builder.steps._data import Array, Samples
from repo_builder.steps._failures import explained
from repo_builder.steps._runtimes import FIXES, Runner

LEAST_RUNS = 4
OUTPUTS = "outputs.npz"
SHAPES = "shapes.json"

Answers: TypeAlias = Mapping[str, Sequence[Array]]
"""Output -> one array for each run."""


def collect(runner: Runner, samples: Samples, seconds: float = math.inf) -> dict[str, list[Array]]:
    """Run all samples, one run after another; after `seconds` no more once `LEAST_RUNS` are done.

    ModelError where a run fails.
    """
    answers: dict[str, list[Array]] = {tensor.name: [] for tensor in runner.outputs}
    begun = time.monotonic()
    for run in range(samples.runs):
        if run >= LEAST_RUNS and time.monotonic() - begun > seconds:
            break
        what = f"the model fails on row {run}"
        with explained(what, "check the model and its data", ModelError, FIXES):
            for name, array in runner.run(samples.feed(run)).items():
                answers[name].append(np.asarray(array))
    return answers


def run_all(runner: Runner, samples: Samples) -> dict[str, Array]:
    """Run all samples, outputs as of `joined`. ModelError where a run fails."""
    return joined(collect(runner, samples), samples)


def joined(answers: Answers, samples: Samples) -> dict[str, Array]:
    """All runs of every output in one array, along rows.

    Outputs without a row dimension are stacked. Outputs whose length depends on the data are
    joined one after another, flat where other dimensions differ too.
    """
    block = max(max(samples.blocks.values(), default=0), 0)
    return {name: _joined(list(arrays), block) for name, arrays in answers.items()}


def _joined(arrays: list[Array], block: int) -> Array:
    by_rows = block > 0 and all(a.ndim > 0 and len(a) == block for a in arrays)
    if not by_rows and len({a.shape for a in arrays}) == 1:
        return np.stack(arrays)
    if len({a.shape[1:] if a.ndim else () for a in arrays}) > 1 or arrays[0].ndim == 0:
        arrays = [a.reshape(-1) for a in arrays]
    return np.concatenate(arrays)


def write(folder: Path, answers: Answers, samples: Samples) -> dict[str, Array]:
    """Write `outputs.npz`, the arrays joined, and `shapes.json`, those of every run."""
    arrays = joined(answers, samples)
    _data.write(folder / OUTPUTS, arrays)
    shapes = {name: [list(a.shape) for a in runs] for name, runs in sorted(answers.items())}
    (folder / SHAPES).write_text(json.dumps(shapes) + "\n", encoding="ascii")
    return arrays


def read(folder: Path) -> tuple[dict[str, list[Array]], dict[str, Array]]:
    """What `write` wrote: for each run, and joined."""
    arrays = _data.read(folder / OUTPUTS)
    shapes = json.loads((folder / SHAPES).read_text(encoding="ascii"))
    return {name: _parted(arrays[name], shapes[name]) for name in arrays}, arrays


def _parted(array: Array, shapes: Sequence[Sequence[int]]) -> list[Array]:
    ends = np.cumsum([int(np.prod(shape, dtype=np.int64)) for shape in shapes])
    parts = np.split(array.reshape(-1), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
