"""`fp16-ranges`: what overflows inside the model on a device that computes in fp16."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.steps import _bodies, _difference, _fp16, _inner, _limits, _onnx, _rounded, _rows
from repo_builder.steps._data import Samples
from repo_builder.steps._failures import explained
from repo_builder.steps._fp16 import Params

if TYPE_CHECKING:
    from onnx import ModelProto

ROWS = 16
"""Rows on which the range of every inner tensor is measured."""
MOST_NAMED = 5
MARGIN = 4.0
"""Where answers are spoilt, what comes this close to 65504 stays in fp32: other rows go further."""


@dataclass(frozen=True)
class Inputs:
    """`model`: the model in fp32 that is built. `reference`, `evaluation`, ...: as in `verify`."""

    model: Path
    reference: Path
    evaluation: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Ranges in fp32 on `rows` rows.

    `headroom` is 65504 over the largest value in any inner tensor, which `largest` makes; below 1
    something overflows. `overflowing` has the first nodes that do, with what they reach, in the
    order in which they run; `count` is how many there are. `spoils`: the answers in fp16 are beyond
    the limits of fp16 for it.
    """

    rows: int
    headroom: float
    largest: str
    overflowing: tuple[_inner.Peak, ...]
    count: int
    spoils: bool


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `kept.json`: the tensors that have to stay in fp32 for the answers to be right.

    None where nothing overflows, or where it does no harm: a mask of -1e9 before a softmax does
    not. StepError where the model cannot be run.
    """
    with explained("the ranges of inner tensors cannot be measured", _fp16.WAY_OUT):
        model = _rounded.taken_apart(_onnx.optimized(inputs.model))
        found = _rows.compared(inputs, inputs.reference, _fp16.tensors(model), params)
        samples = _rows.spread(found.samples, ROWS)
        peaks = _inner.peaks(model, samples)
        over = {name: peak for name, peak in peaks.items() if peak.value > _rounded.LARGEST}
        spoils = bool(over) and _spoils(model, samples)
    bound = _bodies.touched(model.graph)  # a body computes in one precision
    kept = [
        name
        for name, peak in peaks.items()
        if spoils and peak.value > _rounded.LARGEST / MARGIN and name not in bound
    ]
    (out / _fp16.KEPT).write_text(json.dumps(kept) + "\n", encoding="utf-8")
    top = max(peaks.values(), key=lambda peak: peak.value, default=_inner.Peak("", 0.0))
    return Facts(
        rows=samples.rows,
        headroom=float(np.divide(_rounded.LARGEST, top.value)) if top.value else 0.0,
        largest=top.node,
        overflowing=tuple(over.values())[:MOST_NAMED],
        count=len(over),
        spoils=spoils,
    )


def _spoils(model: ModelProto, samples: Samples) -> bool:
    """Whether the answers of `model` rounded to fp16 are beyond the limits of fp16."""
    names = [value.name for value in model.graph.output]
    both = [list(_inner.values(one, names, samples)) for one in (model, _rounded.rounded(model))]
    allowed = _limits.limits("fp16")
    return any(
        _limits.broken(
            _difference.compare(name, *([run[name] for run in runs] for runs in both)), allowed
        )
        for name in names
    )
