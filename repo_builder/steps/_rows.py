"""What a model is tried on: rows of evaluation or calibration data, or noise without data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.steps import _data, _judge
from repo_builder.steps._data import Array

CALIBRATION = "calibration.npz"
INPUTS = "inputs.npz"
"""What `reference` keeps of the inputs; all of them where they were drawn."""

MOST_ROWS = 64
LEAST_ROWS = 8
MOST_VALUES = 1 << 24
"""Rows of calibration data that models are compared on: `MOST_ROWS`, fewer of large inputs."""

Origin = Literal["evaluation", "calibration", "generated"]


class Given(Protocol):
    """The part of a step's inputs that has rows."""

    @property
    def evaluation(self) -> Path | None: ...
    @property
    def calibration(self) -> Path | None: ...


@dataclass(frozen=True)
class Compared:
    """The rows to compare models on. `evaluation` has the labels too, where the spec names some."""

    samples: _data.Samples
    origin: Origin
    evaluation: _judge.Evaluation | None = None


def compared(
    given: Given, drawn: Path, inputs: Sequence[Tensor], request: _judge.Request
) -> Compared:
    """Rows of the user's data, or those that `reference` drew and wrote into the folder `drawn`.

    All rows of evaluation data that `request` wants, since a metric is judged on all of them.
    DataError: see `_data`.
    """
    found = of_data(given, inputs, request)
    if found is not None:
        return found
    return Compared(_data.samples(drawn / INPUTS, inputs), "generated")


def of_data(given: Given, inputs: Sequence[Tensor], request: _judge.Request) -> Compared | None:
    """As `compared`, None where the user gave no data."""
    if given.evaluation is not None:
        evaluation = _judge.Evaluation.read(given.evaluation, inputs, request)
        return Compared(evaluation.samples, "evaluation", evaluation)
    if given.calibration is not None:
        samples = _data.samples(given.calibration / CALIBRATION, inputs)
        return Compared(spread(samples), "calibration")
    return None


def spread(samples: _data.Samples, most: int = MOST_ROWS) -> _data.Samples:
    """At most `most` runs, evenly over all of them, fewer where inputs are large."""
    values = sum(array.size for array in samples.arrays.values()) // max(samples.runs, 1)
    count = min(most, max(LEAST_ROWS, MOST_VALUES // max(values, 1)), samples.runs)
    if count == samples.runs:
        return samples
    chosen = np.linspace(0, samples.runs - 1, count).astype(np.intp)
    return samples.take(chosen)


def feeds(evaluation: Path | None, inputs: Sequence[Tensor], rows: int) -> list[dict[str, Array]]:
    """Up to `rows` inputs of a model with static shapes. DataError: see `_data`.

    Noise is standard normal, the same every time.
    """
    if evaluation is None:
        random = np.random.default_rng(0)
        shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in inputs}
        types = {tensor.name: _data.numpy_type(tensor) for tensor in inputs}
        return [
            {
                name: random.standard_normal(shape).astype(types[name])
                for name, shape in shapes.items()
            }
            for _ in range(rows)
        ]
    samples = _data.samples(evaluation / _judge.FILE, inputs)
    return [samples.feed(run) for run in range(min(rows, samples.runs))]
