"""`emulate-fp16`: what the model answers on a device that computes in fp16, and what overflows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repo_builder.spec.types import MetricName
from repo_builder.steps import _answers, _inner, _onnx, _rounded, _rows, _runtimes
from repo_builder.steps._failures import explained

RANGE_ROWS = 16
"""Rows on which the range of every inner tensor is measured."""
MOST_NAMED = 5


@dataclass(frozen=True)
class Params:
    """As in `reference`."""

    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: the model in fp32 that is built. `reference`, `evaluation`, ...: as in `verify`."""

    model: Path
    reference: Path
    evaluation: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Ranges in fp32.

    `headroom` is 65504 over the largest value in any inner tensor, which `largest` makes; below 1
    something overflows. `overflowing` has the first nodes that do, with what they reach, in the
    order in which they run; `count` is how many there are.
    """

    rows: int
    headroom: float
    largest: str
    overflowing: tuple[_inner.Peak, ...]
    count: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write all answers (see `_answers`) of the model rounded to fp16: see `_rounded`.

    StepError where the model cannot be rounded, ModelError where it then fails on a row.
    """
    what, fix = "the model cannot be run in emulated fp16", "write `optimize: {precision: fp32}`"
    with explained(what, fix):
        model = _rounded.taken_apart(_onnx.optimized(inputs.model))
        emulated = _rounded.rounded(model)
        with tempfile.TemporaryDirectory() as scratch:
            _onnx.save(emulated, Path(scratch))
            as_written = _runtimes.Options(optimize=False)
            runner = _runtimes.load(Path(scratch), "onnxruntime", as_written)
    found = _rows.compared(inputs, inputs.reference, runner.inputs, params)
    _answers.write(out, _answers.collect(runner, found.samples), found.samples)
    with explained("the ranges of inner tensors cannot be measured", fix):
        peaks = _inner.peaks(model, _rows.spread(found.samples, RANGE_ROWS))
    over = [peak for peak in peaks.values() if peak.value > _rounded.LARGEST]
    top = max(peaks.values(), key=lambda peak: peak.value, default=_inner.Peak("", 0.0))
    return Facts(
        rows=found.samples.rows,
        headroom=float(np.divide(_rounded.LARGEST, top.value)) if top.value else 0.0,
        largest=top.node,
        overflowing=tuple(over[:MOST_NAMED]),
        count=len(over),
    )
