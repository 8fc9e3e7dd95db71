"""`emulate-fp16`: what the model answers on a device that computes in fp16."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repo_builder.steps import _answers, _fp16, _onnx, _rounded, _rows
from repo_builder.steps._failures import explained
from repo_builder.steps._fp16 import Params


@dataclass(frozen=True)
class Inputs:
    """`model`: the model in fp32 that is built. `reference`, `evaluation`, ...: as in `verify`.

    `ranges`: what `fp16-ranges` wrote, for devices that can keep tensors in fp32.
    """

    model: Path
    reference: Path
    ranges: Path | None = None
    evaluation: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Facts:
    """How many rows were run."""

    rows: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write all answers (see `_answers`) of the model rounded to fp16: see `_rounded`.

    StepError where the model cannot be rounded, ModelError where it then fails on a row.
    """
    with explained("the model cannot be run in emulated fp16", _fp16.WAY_OUT):
        model = _rounded.rounded(_onnx.optimized(inputs.model), _fp16.kept(inputs.ranges))
        runner = _fp16.runner(model)
    found = _rows.compared(inputs, inputs.reference, runner.inputs, params)
    _answers.write(out, _answers.collect(runner, found.samples), found.samples)
    return Facts(found.samples.rows)
