"""`reference`: what the source answers in fp32, to compare every built model with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repo_builder.base.errors import ModelError
from repo_builder.spec.types import MetricName
from repo_builder.steps import _data, _judge, _onnx, _runtimes

RANDOM_ROWS = 16
"""Rows of seeded random inputs where a spec has no evaluation data."""

KEPT_ROWS = 8
"""Rows of evaluation data that are kept with the outputs, for steps that need some inputs."""


@dataclass(frozen=True)
class Params:
    """See `repo_builder.spec.types.Evaluation`; without a metric, random inputs may be used."""

    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: the imported model. `evaluation`: a folder with `evaluation.npz`."""

    model: Path
    evaluation: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Rows that were run, and the source's metric on them."""

    rows: int
    metric: float | None


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `outputs.npz`, all outputs by name, and `inputs.npz`, the first inputs.

    The graph is run as it is written, without optimization. `inputs.npz` has `KEPT_ROWS` rows of
    the evaluation data, or without such data all `RANDOM_ROWS` seeded random rows.
    """
    runner = _runtimes.load(inputs.model, "onnxruntime", _runtimes.Options(optimize=False))
    metric = None
    if inputs.evaluation is None:
        samples, outputs = _random(inputs.model, runner)
        kept = samples.arrays
    else:
        data = _judge.Evaluation.read(inputs.evaluation, runner.inputs, params)
        samples = data.samples
        outputs = _runtimes.run_all(runner, samples)
        metric = data.judge(outputs)
        kept = samples.first(KEPT_ROWS).arrays
    _data.write(out / "outputs.npz", outputs)
    _data.write(out / "inputs.npz", kept)
    return Facts(samples.rows, metric)


def _random(folder: Path, runner: _runtimes.Runner) -> tuple[_data.Samples, dict[str, _data.Array]]:
    """Random rows of the sizes and kind of values with which the model runs, and its outputs."""
    from repo_builder import introspect
    from repo_builder.introspect.samples import concrete, draw, values

    signature = introspect.signature(folder / _onnx.MODEL)
    batch = 1 if signature.batched else None
    failure: ModelError | None = None
    for kind in values(signature.inputs):
        arrays = {}
        for tensor in signature.inputs:
            shape = concrete(tensor, signature.dynamic_axes, batch)
            if 0 in shape:  # no size was found with which the model runs
                why = signature.why_not_batched
                raise ModelError(f"no random input runs ({why}); give evaluation data in the spec")
            rows = [draw(tensor, shape, kind, seed) for seed in range(RANDOM_ROWS)]
            stack = np.stack(rows)
            arrays[tensor.name] = stack[:, 0] if batch else stack
        samples = _data.check(arrays, signature.inputs, "random inputs")
        try:
            return samples, _runtimes.run_all(runner, samples)
        except ModelError as reason:
            failure = failure or reason
    raise ModelError(f"no random input runs ({failure}); give evaluation data in the spec")
