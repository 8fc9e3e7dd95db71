"""Evaluation data with its metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, did_you_mean
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName, Part
from repo_builder.steps import _data, _metrics
from repo_builder.steps._data import Array
from repo_builder.steps._metrics import own

FILE = "evaluation.npz"


class Request(Protocol):
    """The part of a step's params that says what to judge; see `spec.types.Evaluation`."""

    @property
    def metric(self) -> MetricName | None: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def outputs(self) -> Mapping[str, str]: ...
    @property
    def samples(self) -> int | None: ...
    @property
    def own(self) -> _metrics.Own | None: ...
    @property
    def part(self) -> Part | None: ...


@dataclass(frozen=True)
class Evaluation:
    """Checked evaluation data: the inputs, the labels by the metric's names, and the request.

    For a metric of the user's the labels are all other arrays, and `folder` has its file.
    """

    samples: _data.Samples
    labels: Mapping[str, Array]
    request: Request
    folder: Path

    @classmethod
    def read(cls, folder: Path, inputs: Sequence[Tensor], request: Request) -> Evaluation:
        """Read `evaluation.npz` for a model with `inputs`, all of it or the part that is asked for.

        DataError: see `_data`.
        """
        whole = cls._whole(folder, inputs, request)
        if request.part is None:
            return whole
        return whole.of(_dealt(whole.samples.runs, request.part))

    @classmethod
    def _whole(cls, folder: Path, inputs: Sequence[Tensor], request: Request) -> Evaluation:
        stored = _data.read(folder / FILE)
        samples = _data.check(stored, inputs, FILE, request.samples)
        if request.own is not None:
            names = {tensor.name for tensor in inputs} & stored.keys()
            whole = {len(stored[name]) for name in names}
            others = {
                name: array[: samples.rows] if array.ndim and len(array) in whole else array
                for name, array in stored.items()
                if name not in names
            }
            return cls(samples, others, request, folder)
        constants = REQUIRES[request.metric].constants if request.metric else ()
        every_row = request.samples is None
        labels = _data.labels(
            stored, request.labels, samples.rows, FILE, every_row, constants=constants
        )
        return cls(samples, labels, request, folder)

    def of(self, runs: npt.NDArray[np.intp]) -> Evaluation:
        """The evaluation of these runs alone. Arrays that have no entry for each row stay whole."""
        metric = self.request.metric
        constants: Sequence[str] = REQUIRES[metric].constants if metric else ()
        labels = {
            name: array if name in constants else self.rows_of(array, runs)
            for name, array in self.labels.items()
        }
        return replace(self, samples=self.samples.take(runs), labels=labels)

    def rows_of(self, array: Array, runs: npt.NDArray[np.intp]) -> Array:
        """The rows of these runs, along the first dimension that has one entry for each row.

        Exporters of CTC models put time first. An array without such a dimension stays whole.
        """
        rows = self.samples.rows
        block = rows // self.samples.runs
        chosen = (runs[:, None] * block + np.arange(block)).reshape(-1)
        for axis, size in enumerate(array.shape[:2]):
            if size == rows:
                return np.asarray(np.take(array, chosen, axis=axis))
        return array

    def judge(self, outputs: Mapping[str, Array]) -> float | None:
        """The metric of `outputs` (by the model's names); None where none was asked for."""
        if self.request.metric is None:
            return None
        if self.request.own is not None:
            return own.compute(self.folder, self.request.own, outputs, self.labels)
        wanted = self.request.outputs
        for role, name in wanted.items():
            if name not in outputs:
                raise DataError(
                    f"the metric's '{role}' is to be the model's output '{name}', which it does "
                    f"not have; {did_you_mean(name, outputs)}"
                )
        chosen = {role: outputs[name] for role, name in wanted.items()}
        return _metrics.compute(self.request.metric, chosen, self.labels, self.samples.arrays)


def _dealt(runs: int, part: Part) -> npt.NDArray[np.intp]:
    """The runs of one half, dealt out at random from a fixed seed, in their order.

    Many files have one class after the other. DataError where a half has none.
    """
    if runs < 2:
        raise DataError(f"{FILE} has {runs} row; a search needs rows for choosing and others")
    order = np.random.default_rng(0).permutation(runs)
    return np.sort(order[: runs // 2] if part == "selection" else order[runs // 2 :])
