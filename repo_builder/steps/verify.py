"""`verify`: run the built model in the runtime that serves it and compare it with the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from repo_builder.base.errors import ModelError
from repo_builder.introspect.runtime import first_line
from repo_builder.spec.types import MetricName
from repo_builder.steps import _data, _judge, _metrics, _runtimes


@dataclass(frozen=True)
class Params:
    """`threads` is the number of cores that one instance has on the target; 0: all.

    The rest is as in `reference`.
    """

    runtime: str
    threads: int = 0
    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one. `reference`: what `reference` wrote. `evaluation` as there."""

    model: Path
    reference: Path
    evaluation: Path | None = None


@dataclass(frozen=True)
class Score:
    """The metric of the source and of the built model; `drop` > 0 means that it got worse."""

    metric: MetricName
    source: float
    built: float
    drop: float


@dataclass(frozen=True)
class Facts:
    """What was found by running. `level` says how: here always `executed`, in the runtime.

    `batched` says that rows of the built model that run together equal those that run alone.
    """

    level: Literal["executed"]
    rows: int
    outputs: tuple[_judge.Difference, ...]
    score: Score | None
    batched: bool
    why_not_batched: str


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Compare all rows; writes nothing.

    ModelError: the runtime refuses the model, or it lacks an output of the source. DataError:
    the data does not fit. StepError: it answers NaN where the source does not.
    """
    options = _runtimes.Options(params.threads)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    source = _data.read(inputs.reference / "outputs.npz")
    evaluation = None
    if inputs.evaluation is None:
        samples = _data.samples(inputs.reference / "inputs.npz", runner.inputs)
    else:
        evaluation = _judge.Evaluation.read(inputs.evaluation, runner.inputs, params)
        samples = evaluation.samples
    built = _runtimes.run_all(runner, samples)
    missing = sorted(source.keys() - built.keys())
    if missing:
        raise ModelError(f"the built model lacks the source's outputs {', '.join(missing)}")
    why_not = _why_not_batched(runner, samples, built)
    return Facts(
        level="executed",
        rows=samples.rows,
        outputs=tuple(_judge.difference(name, source[name], built[name]) for name in source),
        score=_score(params, evaluation, source, built),
        batched=not why_not,
        why_not_batched=why_not,
    )


def _score(
    params: Params,
    evaluation: _judge.Evaluation | None,
    source: Mapping[str, _data.Array],
    built: Mapping[str, _data.Array],
) -> Score | None:
    if evaluation is None or params.metric is None:
        return None
    before, after = evaluation.judge(source), evaluation.judge(built)
    if before is None or after is None:
        return None
    return Score(params.metric, before, after, _metrics.drop(params.metric, before, after))


def _why_not_batched(
    runner: _runtimes.Runner, samples: _data.Samples, alone: Mapping[str, _data.Array]
) -> str:
    """What speaks against running rows together, found by running the first four at once."""
    tensors = (*runner.inputs, *runner.outputs)
    fixed = [t.name for t in tensors if not t.shape or isinstance(t.shape[0], int)]
    if fixed or any(block != 1 for block in samples.blocks.values()):
        return f"'{(fixed or list(samples.blocks))[0]}' has no varying first dimension"
    count = min(samples.runs, 4)
    if count < 2:
        return "one row only was given to try"
    try:
        together = runner.run({name: array[:count] for name, array in samples.arrays.items()})
    except Exception as failure:  # noqa: BLE001 - every runtime has errors of its own
        return f"a batch of {count} fails: {first_line(failure)}"
    for name, array in together.items():
        rows = alone[name][:count]
        if array.shape != rows.shape:
            return f"a batch of {count} gives '{name}' the shape {list(array.shape)}"
        if array.dtype.kind == "f":
            scale = float(np.abs(np.nan_to_num(rows)).max(initial=0.0))
            if not np.allclose(array, rows, rtol=0, atol=0.02 * scale, equal_nan=True):
                return f"'{name}' of a row changes with the other rows of its batch"
    return ""
