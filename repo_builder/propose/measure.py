"""Which metric labelled data fit, found by computing it: some rows through the model itself.

Runs in a process of its own (`run.isolated`), as `look` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, RepoBuilderError
from repo_builder.introspect import graph, runtime, trial
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName
from repo_builder.steps import _answers, _data, _metrics
from repo_builder.steps._data import Array

_RUNS = 200
"""Runs that a first look at a score takes at most."""

_VALUES = 1 << 26
"""Values that all runs together take at most, so that large inputs take no longer."""


@dataclass(frozen=True)
class Candidate:
    """A metric that may fit: its name, and for what it reads the names of the model's outputs."""

    metric: MetricName
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """A metric that could be computed on `rows` rows; or `metric` "" and `why` none could."""

    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    value: float = 0.0
    rows: int = 0
    why: str = ""


def fitting(
    model: Path, file: Path, inputs: Sequence[Tensor], candidates: Sequence[Candidate]
) -> Measured:
    """The first of `candidates` that can be computed on the rows of `file`.

    Those whose labels have the metric's own names come before those with a name that was guessed.
    DataError where the arrays do not fit the inputs; ModelError where the model fails on a row.
    """
    stored = _data.read(file)
    samples = _data.check(stored, inputs, file.name)
    others = {name: array for name, array in stored.items() if name not in samples.arrays}
    if not others:
        return Measured(why="it has no labels, only the inputs")
    wanted = [(c, names) for c in candidates if (names := _labels(c.metric, others, samples.rows))]
    wanted.sort(key=lambda pair: any(role != name for role, name in pair[1].items()))
    if not wanted:
        held = ", ".join(f"'{name}' {_kind(array)}" for name, array in others.items())
        return Measured(why=f"no metric reads labels such as {held}: see docs/specs.md")
    outputs, rows = _run(model, samples)
    why = ""
    for candidate, names in wanted:
        needs = REQUIRES[candidate.metric]
        try:
            labels = _data.labels(
                others, names, samples.rows, file.name, all_rows=True, constants=needs.constants
            )
            chosen = {role: outputs[name] for role, name in candidate.outputs.items()}
            cut = {n: a if n in needs.constants else a[:rows] for n, a in labels.items()}
            arrays = {name: array[:rows] for name, array in samples.arrays.items()}
            value = _metrics.compute(candidate.metric, chosen, cut, arrays)
        except RepoBuilderError as failure:
            why = why or failure.message
            continue
        return Measured(candidate.metric, names, candidate.outputs, value, rows)
    return Measured(why=why)


def accuracy(
    model: Path,
    inputs: Sequence[Tensor],
    sets: Sequence[Mapping[str, Array]],
    label: Array,
    output: str,
) -> list[float]:
    """The accuracy of `output` on each of `sets`: the same rows, prepared in several ways."""
    found = []
    for arrays in sets:
        outputs, rows = _run(model, _data.check(arrays, inputs, "the data"))
        scores = {"scores": outputs[output]}
        found.append(_metrics.compute("accuracy", scores, {"label": label[:rows]}, arrays))
    return found


def _run(model: Path, samples: _data.Samples) -> tuple[dict[str, Array], int]:
    """The model's outputs on the first runs, joined along rows, and how many rows that are."""
    loaded = graph.read(model)
    one = sum(array[:1].size for array in samples.arrays.values())
    first = samples.first(max(1, min(_RUNS, _VALUES // max(one, 1))))
    answers: dict[str, list[Array]] = {tensor.name: [] for tensor in loaded.outputs}
    for number in range(first.runs):
        try:
            arrays = trial.run(loaded, first.feed(number))
        except runtime.errors() as failure:
            what = f"the model fails on row {number}: {runtime.reason_of(failure)}"
            raise DataError(what) from None
        for tensor, array in zip(loaded.outputs, arrays, strict=True):
            answers[tensor.name].append(np.asarray(array))
    return _answers.joined(answers, first), first.rows


def _labels(metric: MetricName, others: Mapping[str, Array], rows: int) -> dict[str, str]:
    """What `metric` reads -> the array that may hold it; {} where one is missing.

    An array of the metric's own name, else the only one that could be meant.
    """
    needs = REQUIRES[metric]
    roles = (*needs.labels, *needs.constants)
    if all(role in others for role in roles):
        return {role: role for role in roles}
    if len(roles) != 1:
        return {}
    able = [n for n, a in others.items() if a.ndim and len(a) == rows and _may_be(roles[0], a)]
    return {roles[0]: able[0]} if len(able) == 1 else {}


def _may_be(role: str, array: Array) -> bool:
    kind = array.dtype.kind
    if role == "label":
        return kind in "iubUS" and array.size == len(array)
    if role == "anomaly":
        return kind in "iub" and array.size == len(array) and set(np.unique(array)) <= {0, 1}
    if role == "mask":
        return kind in "iu" and array.ndim == 3
    return role == "target" and kind in "fiu"


def _kind(array: Array) -> str:
    return f"{array.dtype} [{', '.join(map(str, array.shape))}]"
