"""`verify`: run the built model in the runtime that serves it and compare it with the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from repo_builder.base.errors import ModelError
from repo_builder.introspect import quantized
from repo_builder.spec.types import MetricName, Part, Precision
from repo_builder.steps import (
    _answers,
    _batch,
    _bisect,
    _data,
    _difference,
    _interval,
    _judge,
    _large,
    _limits,
    _metrics,
    _onnx,
    _rows,
    _runtimes,
)
from repo_builder.steps._failures import explained

SECONDS = 30.0
"""Without a metric to judge, a slow runtime is asked no more rows after this."""


@dataclass(frozen=True)
class Params:
    """`threads` is the number of cores that one instance has on the target; 0: all.

    `precision` is what was asked for, `widened` the limits that the spec sets in place of the
    default ones: see `_limits`. `classifiers` names outputs that hold scores of classes,
    `derived` those that follow from others: which are compared in their place.
    `confidence` is that of the gate on the score, None where it asks for none. The rest is as in
    `reference`.
    """

    runtime: str
    threads: int = 0
    precision: Precision = "fp32"
    widened: Mapping[str, float] = field(default_factory=dict)
    classifiers: tuple[str, ...] = ()
    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    samples: int | None = None
    own: _metrics.Own | None = None
    part: Part | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one. `source`: the imported one. `reference`: what `reference` wrote.

    `quantized`: an ONNX model of the same numbers, to look inside of what shows no inner tensors.
    `emulated`: what `emulate-fp16` wrote, for devices that compute in fp16. `parent`: what
    `reference` wrote of the net that a pruned one comes from; the score is held against that. The
    data: as there.
    """

    model: Path
    source: Path
    reference: Path
    quantized: Path | None = None
    emulated: Path | None = None
    parent: Path | None = None
    evaluation: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Score:
    """The metric of the source and of the built model; `drop` > 0 means that it got worse.

    `interval` holds the true drop with this `confidence` (see `_interval`); None: cannot be told.
    """

    metric: str
    source: float
    built: float
    drop: float
    rows: int
    confidence: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Facts:
    """What was found by running. `level` says how: here always `executed`, in the runtime.

    `outputs` are the differences on `rows` rows of `origin`, in emulated fp16 where that is larger;
    `limits` are those of `arithmetic`, or of the spec. `broken` has a sentence for each output
    beyond them, `first` the node where that begins, "" where none can be told. `warnings` are what
    a user must know though the model is good. `score` is that of emulated fp16 where there is such,
    None where shapes or NaN leave nothing to judge.

    `unproven` are outputs that are NaN in every row of the source: only other data helps.
    `batched` says that rows of the built model that run together equal those that run alone.
    """

    level: Literal["executed"]
    rows: int
    origin: _rows.Origin
    arithmetic: _limits.Arithmetic
    limits: _limits.Limits
    outputs: tuple[_difference.Difference, ...]
    broken: tuple[str, ...]
    first: str
    warnings: tuple[str, ...]
    score: Score | None
    batched: bool
    why_not_batched: str
    unproven: tuple[str, ...] = ()


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Compare all rows; writes nothing.

    ModelError: the runtime refuses the model, or it lacks an output of the source. DataError: the
    data does not fit.
    """
    options = _runtimes.Options(params.threads)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    source: _answers.Answers
    source, source_joined = _answers.read(inputs.reference)
    runs: Sequence[int] | None
    rows = _rows.compared(inputs, inputs.reference, runner.inputs, params)
    runs = None
    if rows.evaluation is None:
        built = _answers.collect(runner, rows.samples, SECONDS)
        runs = range(min(map(len, built.values())))
        rows = replace(rows, samples=rows.samples.take(runs))
    else:
        built = _answers.collect(runner, rows.samples)
    if runs is not None:
        source, source_joined = _taken(source, runs, rows.samples)
    missing = sorted(source.keys() - built.keys())
    if missing:
        raise ModelError(f"the built model lacks the source's outputs {', '.join(missing)}")
    built_joined = _answers.joined(built, rows.samples)
    why_not = _batch.why_not(runner, rows.samples, built_joined)
    arithmetic = _arithmetic(inputs.source, runner, params.precision)
    allowed = _limits.limits(arithmetic, **params.widened)
    found = _compared(params, source, built)
    broken = _sentences(found, allowed)
    first = ""
    unproven = tuple(one.name for one in found if one.shape == _difference.UNPROVEN)
    if len(broken) > len(unproven):
        with explained(_UNNAMED, "see which outputs differ"):
            inside = (inputs.model, params.runtime)
            if inputs.quantized is not None:
                inside = (inputs.quantized, "onnxruntime")
            first = _bisect.first(inputs.source, *inside, rows.samples, allowed)
    if inputs.emulated is not None:
        emulated, built_joined = _answers.read(inputs.emulated)
        if runs is not None:
            emulated, built_joined = _taken(emulated, runs, rows.samples)
        in_fp16 = _compared(params, source, emulated)
        if not broken and (broken := [f"in fp16 {said}" for said in _sentences(in_fp16, allowed)]):
            with explained(_UNNAMED, "see which outputs differ"):
                first = _bisect.first_in_fp16(inputs.source, rows.samples, allowed)
        pairs = zip(found, in_fp16, strict=True)
        found = tuple(max(pair, key=_limits.severity) for pair in pairs)
    if inputs.parent is not None:
        _, source_joined = _answers.read(inputs.parent)
    wrong, warnings = _large_values(inputs, params, runner, allowed)
    return Facts(
        level="executed",
        rows=rows.samples.rows,
        origin=rows.origin,
        arithmetic=arithmetic,
        limits=allowed,
        outputs=found,
        broken=(*broken, *wrong),
        first=first,
        warnings=warnings,
        score=None
        if any(one.shape or one.misplaced for one in found)
        else _score(params, rows.evaluation, source_joined, built_joined),
        batched=not why_not,
        why_not_batched=why_not,
        unproven=unproven,
    )


def _taken(
    answers: _answers.Answers, runs: Sequence[int], samples: _data.Samples
) -> tuple[dict[str, list[_data.Array]], dict[str, _data.Array]]:
    """The answers of these runs, for each run and joined."""
    part = {name: [arrays[run] for run in runs] for name, arrays in answers.items()}
    return part, _answers.joined(part, samples)


_UNNAMED = "the first wrong node cannot be found"


def _arithmetic(source: Path, runner: _runtimes.Runner, precision: Precision) -> _limits.Arithmetic:
    """What the model computes in: a quantized source stays so, OpenVINO chooses bf16 by itself."""
    if precision == "int8" or quantized.find(_onnx.load_graph(source)) is not None:
        return "int8"
    return "bf16" if runner.in_bf16 else precision


def _compared(
    params: Params, source: _answers.Answers, built: _answers.Answers
) -> tuple[_difference.Difference, ...]:
    """The difference of every output. TFLite has no 64-bit integers, so types may differ there."""
    return tuple(
        _difference.compare(
            name,
            arrays,
            built[name],
            classifier=name in params.classifiers,
            same_type=params.runtime != "litert",
        )
        for name, arrays in source.items()
        if name not in params.derived
    )


def _sentences(found: Iterable[_difference.Difference], allowed: _limits.Limits) -> list[str]:
    return [text for one in found if (text := _limits.broken(one, allowed))]


def _large_values(
    inputs: Inputs, params: Params, runner: _runtimes.Runner, allowed: _limits.Limits
) -> tuple[list[str], tuple[str, ...]]:
    """What breaks on large integers, and what is only to be told; see `_large`.

    An answer in integers is a time, a number or a name, and is wrong. One in floating point may
    come from a mask that never holds such values.
    """
    folder = inputs.reference / _large.FOLDER
    if not folder.is_dir():
        return [], ()
    samples = _data.samples(folder / _rows.INPUTS, runner.inputs)
    source, _ = _answers.read(folder)
    found = _compared(params, source, _answers.collect(runner, samples))
    said = {one.name: text for one in found if (text := _limits.broken(one, allowed))}
    whole = {name for name in said if source[name][0].dtype.kind in "iu"}
    where = f"for 64-bit integers up to {_large.BOUND:.1g}"
    fix = "give data with the values that occur, where they are smaller"
    return (
        [f"{where} {said[name]}; {fix}" for name in said if name in whole],
        tuple(f"{where} {said[name]}; {fix}" for name in said if name not in whole),
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
    drop = _metrics.drop(params.metric, before, after, params.own)
    name = params.own.function if params.own else params.metric
    interval = _interval.of_drop(evaluation, source, built, drop, params.confidence)
    confidence = params.confidence or _interval.CONFIDENCE
    return Score(name, before, after, drop, evaluation.samples.rows, confidence, interval)
