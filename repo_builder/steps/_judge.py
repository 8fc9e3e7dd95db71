"""Evaluation data with its metric, and how far two models' outputs lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, StepError, did_you_mean
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName
from repo_builder.steps import _data, _metrics
from repo_builder.steps._data import Array

FILE = "evaluation.npz"
_CHUNK = 1 << 20


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


@dataclass(frozen=True)
class Evaluation:
    """Checked evaluation data: the inputs, the labels by the metric's names, and the request."""

    samples: _data.Samples
    labels: Mapping[str, Array]
    request: Request

    @classmethod
    def read(cls, folder: Path, inputs: Sequence[Tensor], request: Request) -> Evaluation:
        """Read `evaluation.npz` for a model with `inputs`. DataError: see `_data`."""
        stored = _data.read(folder / FILE)
        samples = _data.check(stored, inputs, FILE, request.samples)
        constants = REQUIRES[request.metric].constants if request.metric else ()
        every_row = request.samples is None
        labels = _data.labels(
            stored, request.labels, samples.rows, FILE, every_row, constants=constants
        )
        return cls(samples, labels, request)

    def judge(self, outputs: Mapping[str, Array]) -> float | None:
        """The metric of `outputs` (by the model's names); None where none was asked for."""
        if self.request.metric is None:
            return None
        wanted = self.request.outputs
        for role, name in wanted.items():
            if name not in outputs:
                raise DataError(
                    f"the metric's '{role}' is to be the model's output '{name}', which it does "
                    f"not have; {did_you_mean(name, outputs)}"
                )
        chosen = {role: outputs[name] for role, name in wanted.items()}
        return _metrics.compute(self.request.metric, chosen, self.labels, self.samples.arrays)


@dataclass(frozen=True)
class Difference:
    """How far an output of the built model lies from the source's, over all rows.

    `relative` is the norm of the difference over the norm of the source's output (0 where both
    are 0). `comparable` is False where the outputs' length depends on the data and differs; the
    figures are 0 then.
    """

    name: str
    max_abs: float
    mean_abs: float
    relative: float
    cosine: float
    comparable: bool = True


def difference(name: str, source: Array, built: Array) -> Difference:
    """Compare two arrays of one output. StepError where only the built one is not finite."""
    if source.shape != built.shape:
        return Difference(name, 0.0, 0.0, 0.0, 0.0, comparable=False)
    if source.dtype.kind not in "fiub":
        source, built = np.zeros(source.shape), (source != built).astype(np.float64)
    flat, other = source.reshape(-1), built.reshape(-1)
    largest = total = squares = norm = other_norm = product = 0.0
    for start in range(0, flat.size, _CHUNK):
        a = flat[start : start + _CHUNK].astype(np.float64)
        b = other[start : start + _CHUNK].astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        broken = ~same & ~np.isfinite(b)
        if broken.any():
            raise StepError(
                f"output '{name}' of the built model is NaN or infinite where the source's is "
                f"not, in {int(broken.sum())} values or more; build with another precision, or "
                "exclude the nodes before it from quantization"
            )
        a, b = (np.where(np.isfinite(a) & np.isfinite(b), x, 0.0) for x in (a, b))
        gap = np.abs(a - b)
        largest = max(largest, float(gap.max(initial=0.0)))
        total += float(gap.sum())
        squares += float(np.sum(gap**2))
        norm += float(np.sum(a**2))
        other_norm += float(np.sum(b**2))
        product += float(np.sum(a * b))
    scale = float(np.sqrt(norm * other_norm))
    equal = squares == 0.0
    return Difference(
        name,
        max_abs=largest,
        mean_abs=total / max(flat.size, 1),
        relative=0.0
        if equal
        else float(np.sqrt(squares / norm))
        if norm
        else float(np.sqrt(squares)),
        cosine=1.0 if equal else product / scale if scale else 0.0,
    )
