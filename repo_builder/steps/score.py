"""`score`: what a model scores on the evaluation data in the runtime that serves it, and no more.

For the fp32 beside which a variant is shown; what is published is compared by `verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from repo_builder.spec.types import MetricName, Part
from repo_builder.steps import _answers, _judge, _metrics, _runtimes


@dataclass(frozen=True)
class Params:
    """`threads` as in `verify`, the rest as in `reference`."""

    runtime: str
    threads: int = 0
    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None
    own: _metrics.Own | None = None
    part: Part | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: built for the runtime. `evaluation`: the data, with the user's metric beside it."""

    model: Path
    evaluation: Path


@dataclass(frozen=True)
class Facts:
    """`score` is in the metric's own unit."""

    score: float | None


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Run all rows; writes nothing.

    ModelError where a run fails, DataError where the data does not fit.
    """
    options = _runtimes.Options(params.threads)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    evaluation = _judge.Evaluation.read(inputs.evaluation, runner.inputs, params)
    return Facts(evaluation.judge(_answers.run_all(runner, evaluation.samples)))
