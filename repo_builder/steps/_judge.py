"""Evaluation data with its metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, did_you_mean
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName
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
        """Read `evaluation.npz` for a model with `inputs`. DataError: see `_data`."""
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
