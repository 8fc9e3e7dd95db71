"""`near`: weights rounded to those that devices have plus a few steps, so that the delta is small.

What is tested, gated, signed and shipped is the rounded model. Each tensor has its own step, a
power of two about half the deviation of its change: w' = w_old + q * 2^k, rounded once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.spec.types import MetricName, Part
from repo_builder.steps import _answers, _judge, _metrics, _onnx, _runtimes
from repo_builder.steps._data import Array

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

FINENESS = (0.5, 0.25, 0.125)
"""Steps over the deviation of a tensor's change, tried in this order."""

AGREEMENT = 0.999
"""Labels that must be those of the model as it came."""

_FEW = 1024
"""Tensors with fewer elements stay: biases take no room, and all answers hang on them."""


@dataclass(frozen=True)
class Params:
    """`most` is the gate on the drop of the score, None for none; the rest is as in `reference`."""

    most: float | None = None
    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None
    own: _metrics.Own | None = None
    part: Part | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: in floating point. `base`: what devices serve. `evaluation`: see `reference`."""

    model: Path
    base: Path
    evaluation: Path


@dataclass(frozen=True)
class Facts:
    """`step` is the fineness that was kept, None where the model stays as it came, and `why_not`.

    `rounded` is the share (0..1) of the model's weights; `agreement` that of labels; scores are in
    the metric's own unit, `drop` > 0 means that it got worse; `without` and `with_it` are the
    deltas from the base in bytes.
    """

    step: float | None
    why_not: str
    rounded: float
    agreement: float
    before: float | None
    after: float | None
    drop: float
    without: int
    with_it: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write the model, rounded where labels and score allow it."""
    runner = _runtimes.load(inputs.model, "onnxruntime", _runtimes.Options())
    evaluation = _judge.Evaluation.read(inputs.evaluation, runner.inputs, params)
    asked = _answers.run_all(runner, evaluation.samples)
    before = evaluation.judge(asked)
    without = _delta(inputs.base, inputs.model)
    why_not, agreement = "", 1.0
    after = before
    for step in FINENESS:
        rounded = _onnx.load(inputs.model)
        share = _round(rounded, _onnx.load(inputs.base), step)
        if not share:
            why_not = "no weights of the two models have the same name, type and shape"
            break
        _onnx.save(rounded, out)
        again = _runtimes.load(out, "onnxruntime", _runtimes.Options())
        answers = _answers.run_all(again, evaluation.samples)
        agreement, after = _agreement(asked, answers), evaluation.judge(answers)
        drop = _drop(params, before, after)
        why_not = _refused(params, agreement, drop)
        if not why_not:
            size = _delta(inputs.base, out)
            return Facts(step, "", share, agreement, before, after, drop, without, size)
    _onnx.save(_onnx.load(inputs.model), out)
    return Facts(None, why_not, 0.0, agreement, before, after, 0.0, without, without)


def _drop(params: Params, before: float | None, after: float | None) -> float:
    """By how much the score got worse; 0 where none was asked for."""
    if params.metric is None or before is None or after is None:
        return 0.0
    return _metrics.drop(params.metric, before, after, params.own)


def _refused(params: Params, agreement: float, drop: float) -> str:
    """Why rounded weights are not good enough; "" where they are."""
    if agreement < AGREEMENT:
        return f"only {agreement:.4f} of the labels would stay, and {AGREEMENT} must"
    if params.most is None or drop <= params.most:
        return ""
    return f"the score would fall by {drop:.4g} > max_accuracy_drop {params.most:g}"


def _round(model: ModelProto, base: ModelProto, fineness: float) -> float:
    """Round the weights of `model` in place; the share (0..1) that was rounded."""
    from onnx import numpy_helper

    known = {tensor.name: tensor for tensor in base.graph.initializer}
    every = done = 0
    for tensor in model.graph.initializer:
        count = _onnx.elements(tensor)
        every += count
        partner = known.get(tensor.name)
        if partner is None or count < _FEW or not _alike(tensor, partner):
            continue
        new = numpy_helper.to_array(tensor)
        old = numpy_helper.to_array(partner).astype(new.dtype)
        if (found := rounded(old, new, fineness)) is not None:
            tensor.CopyFrom(numpy_helper.from_array(found, tensor.name))
            done += count
    return done / every if every else 0.0


def _alike(tensor: TensorProto, partner: TensorProto) -> bool:
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    wider = (tensor.data_type, partner.data_type) == floats
    same = tensor.data_type == partner.data_type and tensor.data_type in floats
    return list(tensor.dims) == list(partner.dims) and (same or wider)


def rounded(old: Array, new: Array, fineness: float) -> Array | None:
    """`new` as old + q * 2^k, q an integer of at most 12 bits, 2^k about `fineness` deviations of
    the change; None where nothing changed or q would be larger.

    Both are float32 or float16 of one shape.
    """
    from repo_builder.release.delta import numbers, segments
    from repo_builder.release.delta.layout import Kind

    kind = Kind.STEP_F4 if new.dtype.itemsize == 4 else Kind.STEP_F2
    change = new.astype(np.float64) - old.astype(np.float64)
    deviation = float(change.std())
    if not np.isfinite(deviation) or not deviation:
        return None
    exponent = int(np.rint(np.log2(deviation * fineness)))
    if np.abs(change).max() > segments.LARGEST_Q * 2.0**exponent:
        return None
    known, wanted = (
        numbers.unsigned(np.ascontiguousarray(a).reshape(-1), kind) for a in (old, new)
    )
    q = segments.quotients(known, wanted, exponent, kind)
    found = numbers.stepped(known, q, np.full(len(q), exponent, np.int32), kind)
    return found.view(new.dtype).reshape(new.shape)


def _agreement(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """The share of labels that are the same, of the output where it is least."""
    shares = [1.0]
    for name, array in before.items():
        other = after[name]
        if array.shape != other.shape:
            return 0.0
        if array.dtype.kind == "f" and array.ndim > 1 and array.shape[-1] > 1:
            array, other = array.argmax(axis=-1), other.argmax(axis=-1)  # noqa: PLW2901
        elif array.dtype.kind == "f":
            continue
        shares.append(float(np.mean(array == other)))
    return min(shares)


def _delta(base: Path, model: Path) -> int:
    """Bytes of the delta between two models' files."""
    from repo_builder.release.delta import make

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "delta"
        made = make(base / _onnx.MODEL, model / _onnx.MODEL, out, worth=float("inf"))
        return made.size if made else 0
