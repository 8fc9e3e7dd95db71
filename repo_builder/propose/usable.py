"""Which of the files beside a model it can use, and what metric they bring."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.artifact import Signature
from repo_builder.base.errors import RepoBuilderError
from repo_builder.propose import beside, measure
from repo_builder.propose.beside import Beside
from repo_builder.propose.look import Look
from repo_builder.propose.tasks import Task
from repo_builder.run import isolated
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName
from repo_builder.steps import _data

_SAMPLES = 200
"""Rows that calibrate at most, as in a spec that says nothing."""

_ANY: tuple[MetricName, ...] = (
    "accuracy", "map50_ultralytics", "map50", "miou", "auroc", "cer", "recall1", "rmse",
)  # fmt: skip
"""Metrics that are tried after those of the task, where the labels have their names."""


@dataclass(frozen=True)
class Usable:
    """The files that fit the model; `problems` says of the others why not.

    `samples` are the rows to calibrate with. `measured` is the metric of the evaluation, which the
    model itself was judged by.
    """

    calibration: Path | None = None
    samples: int = 0
    evaluation: Path | None = None
    measured: measure.Measured = measure.Measured()  # noqa: RUF009 - frozen
    confidence: Path | None = None
    problems: tuple[str, ...] = ()


def check(onnx: Path, found: Beside, look: Look, task: Task) -> Usable:
    """Read the files that were `found`, and compute metrics in a process of its own."""
    problems: list[str] = []
    samples = 0
    calibration = found.calibration
    if calibration is not None:
        try:
            samples = _samples(calibration, look.signature)
        except RepoBuilderError as failure:
            problems.append(_told(calibration, failure))
            calibration = None
    evaluation, measured = found.evaluation, measure.Measured()
    if evaluation is not None:
        try:
            inputs = look.signature.inputs
            tried = list(_candidates(task))
            measured = isolated.call(onnx, measure.fitting, onnx, evaluation, inputs, tried)
        except RepoBuilderError as failure:
            measured = measure.Measured(why=_told(evaluation, failure))
        if measured.metric is None:
            problems.append(f"{evaluation} is not used: {measured.why}")
            evaluation = None
    confidence = found.confidence
    if confidence is not None:
        try:
            _data.samples(confidence, look.signature.inputs)
        except RepoBuilderError as failure:
            problems.append(_told(confidence, failure))
            confidence = None
    return Usable(calibration, samples, evaluation, measured, confidence, tuple(problems))


def by_chance(data: Usable, task: Task) -> str:
    """A warning where the model itself is right hardly more often than by guessing, else ""."""
    measured = data.measured
    if measured.metric != "accuracy" or task.classes < 2 or measured.value * task.classes >= 1.5:
        return ""
    return (
        f"{score(data)}, hardly more than a guess among {task.classes} classes: look at how inputs"
        " are prepared, and at the order of the classes"
    )


def labels(found: Beside, task: Task) -> tuple[Path | None, str]:
    """The file of labels where it has one for each class; else None, and why not."""
    file = found.labels
    if file is None or not task.classes or (count := beside.lines(file)) == task.classes:
        return file if task.classes else None, ""
    return None, f"{file} is not used: {count} lines for {task.classes} classes"


def _samples(file: Path, signature: Signature) -> int:
    """How many rows of a file calibrate: whole runs, 200 at most."""
    checked = _data.samples(file, signature.inputs)
    block = math.lcm(*(max(size, 1) for size in checked.blocks.values()))
    return min(checked.runs * block, max(_SAMPLES // block, 1) * block)


def _told(file: Path, failure: RepoBuilderError) -> str:
    why = failure.problems[0] if failure.problems else None
    reason = f"{why.what}" if why else failure.message
    return f"{file} is not used: {reason}"


def _candidates(task: Task) -> Iterator[measure.Candidate]:
    for metric in task.metrics:
        yield measure.Candidate(metric, task.outputs(metric))
    for metric in _ANY:
        if metric not in task.metrics and len(REQUIRES[metric].outputs) == 1:
            yield measure.Candidate(metric, task.outputs(metric))


def said(task: Task, data: Usable) -> Iterator[str]:
    """What was found, for people."""
    if task.what:
        yield f"{task.output}: {task.what}"
    if data.measured.metric:
        yield score(data)


def score(data: Usable) -> str:
    """The model's own score in words."""
    measured = data.measured
    return f"{measured.metric} {measured.value:.4g} on {measured.rows} rows, by the model as it is"
