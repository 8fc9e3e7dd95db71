"""`reference`: what the source answers in fp32, to compare every built model with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repo_builder.base.errors import ModelError
from repo_builder.spec.types import MetricName, Part
from repo_builder.steps import _answers, _data, _large, _metrics, _onnx, _rows, _runtimes

RANDOM_ROWS = 16
"""Rows of seeded random inputs where a spec has no data; fewer of large inputs: see `_rows`."""

KEPT_ROWS = 8
"""Rows of a user's data that are kept with the outputs, for steps that need some inputs."""


@dataclass(frozen=True)
class Params:
    """See `repo_builder.spec.types.Evaluation`; without a metric, random inputs may be used.

    `sizes`, of these inputs, as in `import`; with `one_shape` an open dimension 0 is 1, since the
    toolchain takes no other.
    """

    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    own: _metrics.Own | None = None
    part: Part | None = None
    one_shape: bool = False


@dataclass(frozen=True)
class Inputs:
    """`model`: the imported model. `evaluation`, `calibration`: folders with such an .npz file.

    The calibration data is read only where there is no evaluation data.
    """

    model: Path
    evaluation: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Rows that were run and where they come from, and the source's metric on them."""

    rows: int
    origin: _rows.Origin
    metric: float | None


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write all answers (see `_answers`), and `inputs.npz`, the first inputs.

    The graph is run as it is written, without optimization. `inputs.npz` has `KEPT_ROWS` rows of
    the user's data, or without data all `RANDOM_ROWS` seeded random rows. Of models of 64-bit
    integers without data, `large/` has as much for large values (see `_large`).
    """
    runner = _runtimes.load(inputs.model, "onnxruntime", _runtimes.Options(optimize=False))
    found = _rows.of_data(inputs, runner.inputs, params)
    metric = None
    if found is None:
        samples, answers = _random(inputs.model, runner, params)
        found = _rows.Compared(samples, "generated")
        kept = samples
        _large.write(out, inputs.model, runner, samples)
    else:
        answers = _answers.collect(runner, found.samples)
        kept = found.samples.first(KEPT_ROWS)
    outputs = _answers.write(out, answers, found.samples)
    if found.evaluation is not None:
        metric = found.evaluation.judge(outputs)
    _data.write(out / _rows.INPUTS, kept.arrays)
    return Facts(found.samples.rows, found.origin, metric)


def _random(
    folder: Path, runner: _runtimes.Runner, params: Params
) -> tuple[_data.Samples, dict[str, list[_data.Array]]]:
    """Random rows of the sizes and kind of values with which the model runs, and its answers.

    Of kinds that run the first that leaves no output NaN on every row, as a mask of others than 0
    and 1 may.
    """
    from repo_builder import introspect
    from repo_builder.introspect.samples import concrete, draw, values

    signature = introspect.signature(folder / _onnx.MODEL, params.sizes)
    batch = 1 if signature.batched else None
    failure: ModelError | None = None
    unclear: tuple[_data.Samples, dict[str, list[_data.Array]]] | None = None
    shapes = {t.name: concrete(t, signature.dynamic_axes, batch) for t in signature.inputs}
    if params.one_shape:
        for tensor in signature.inputs:
            if tensor.shape and isinstance(tensor.shape[0], str):
                shapes[tensor.name] = (1, *shapes[tensor.name][1:])
    if any(0 in shape for shape in shapes.values()):  # no size was found with which the model runs
        why = signature.why_not_batched
        raise ModelError(f"no random input runs ({why}); give evaluation data in the spec")
    one = sum(math.prod(shape) for shape in shapes.values())
    count = min(RANDOM_ROWS, max(_rows.LEAST_ROWS, _rows.MOST_VALUES // max(one, 1)))
    for kind in values(signature.inputs):
        arrays = {}
        for tensor in signature.inputs:
            rows = [draw(tensor, shapes[tensor.name], kind, seed) for seed in range(count)]
            stack = np.stack(rows)
            arrays[tensor.name] = stack[:, 0] if batch else stack
        samples = _data.check(arrays, signature.inputs, "random inputs")
        try:
            answers = _answers.collect(runner, samples)
        except ModelError as reason:
            failure = failure or reason
            continue
        if not any(map(_only_nan, answers.values())):
            return samples, answers
        unclear = unclear or (samples, answers)
    if unclear is not None:
        return unclear
    raise ModelError(f"no random input runs ({failure}); give evaluation data in the spec")


def _only_nan(runs: Sequence[_data.Array]) -> bool:
    """Whether an output has values, and none that is a number."""
    floats = [array for array in runs if array.dtype.kind == "f" and array.size]
    return bool(floats) and all(bool(np.isnan(array).all()) for array in floats)
