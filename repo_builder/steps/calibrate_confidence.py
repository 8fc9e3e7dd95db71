"""`calibrate-confidence`: find out when the built model's answers are sure, on held-out data.

The mathematics and its promise are `_confidence`'s. The data are rows that the model
was neither trained nor quantized on; one part fits the temperature and proposes thresholds, the
rest tests them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repo_builder.base import detections, digest
from repo_builder.base.errors import DataError, ModelError, RepoBuilderError, did_you_mean
from repo_builder.client.models.confidence import Floats, Policy, logits_of, score
from repo_builder.client.models.policies import Activation, PolicyName, ScoreLayout
from repo_builder.steps import _answers, _data, _judge, _metrics, _runtimes
from repo_builder.steps import _confidence as confidence
from repo_builder.steps._data import Array

FEWEST = 8
"""Rows below which there is nothing to say at all."""

Bools = confidence.Bools


@dataclass(frozen=True)
class Params:
    """`runtime` and `threads` as in `verify`; the rest is `repo_builder.spec.types.Fallback`."""

    runtime: str
    policy: PolicyName
    output: str
    activation: Activation
    threads: int = 0
    label: str = ""
    samples: int | None = None
    max_error: float | None = None
    threshold: float | None = None
    confidence_level: float = 0.95
    cloud: str = ""
    cloud_latency_ms: float | None = None
    cloud_cost: float = 1.0
    layout: ScoreLayout = "scores"


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one. `data`: a folder with `evaluation.npz`. `cloud`: the source of the
    model that unsure rows go to; it runs as it is written."""

    model: Path
    data: Path
    cloud: Path | None = None


@dataclass(frozen=True)
class Point:
    """What one threshold gives on the tested rows: shares of rows, added ms and cost per row.

    `edge_error` is the share of wrong answers among the sure ones; `total_error` that of all
    answers, the cloud's too. None where it is not known.
    """

    threshold: float
    coverage: float
    edge_error: float | None
    total_error: float | None
    added_ms: float | None
    cost: float


@dataclass(frozen=True)
class Facts:
    """The policy to ship, and what it was found from.

    `calibration` is the digest of the policy with the data that it was found on. `tuned` rows
    fitted the temperature, `tested` others the threshold: `kept` of these were sure, `errors` of
    those wrong, and `bound` is the upper confidence bound of their error rate (None where right
    and wrong are not known). `chosen` is the policy's own point, None where it has no threshold.
    """

    policy: Policy
    calibration: str
    tuned: int
    tested: int
    kept: int
    errors: int | None
    bound: float | None
    chosen: Point | None
    frontier: tuple[Point, ...]
    warning: str = ""


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Run the built model, and the cloud's, on all rows; writes nothing.

    DataError: the data or the labels do not fit the model, are fewer than `FEWEST`, or the output
    is not what the policy reads. ModelError: a runtime refuses a model, or the cloud's cannot
    stand in for the edge's.
    """
    values, labels = _edge_answers(inputs, params)
    model_digest = digest.of_json(_contents(inputs.model))
    if params.policy == "max_score":
        found = detect(values, params, model_digest)
    else:
        assert labels is not None  # noqa: S101 - only max_score does without
        cloud = _cloud_answers(inputs, params, values.shape[1:]) if inputs.cloud else None
        found = classify(values, labels, cloud, params, model_digest)
    known = {"policy": dataclasses.asdict(found.policy), "data": _contents(inputs.data)}
    return dataclasses.replace(found, calibration=digest.of_json(known))


def classify(
    values: Array, labels: Array, cloud: Array | None, params: Params, model_digest: str
) -> Facts:
    """The policy of a classifier from its output `values` [n, ...] and the classes `labels` [n].

    `cloud` is the other model's output for the same rows.
    """
    policy, certified = confidence.calibrate(
        values,
        labels,
        output=params.output,
        digest=model_digest,
        policy=params.policy,
        activation=params.activation,
        max_error=params.max_error,
        threshold=params.threshold,
        confidence_level=params.confidence_level,
        cloud_model=params.cloud,
    )
    tune, test = confidence.split(len(labels))
    right = logits_of(values, params.activation).argmax(axis=1) == labels
    other = None if cloud is None else logits_of(cloud, params.activation).argmax(axis=1) == labels
    tested = (
        policy.scores({params.output: values})[test],
        right[test],
        None if other is None else other[test],
        params,
    )
    threshold = policy.threshold
    return Facts(
        policy=policy,
        calibration="",
        tuned=len(tune),
        tested=len(test),
        kept=certified.kept,
        errors=certified.errors,
        bound=certified.bound,
        chosen=None if threshold is None else _points(*tested, at=[threshold])[0],
        frontier=_points(*tested),
        warning=certified.warning,
    )


def detect(values: Array, params: Params, model_digest: str) -> Facts:
    """The policy of a detector: a fixed threshold, and how many images are sure at it."""
    threshold = params.threshold
    assert threshold is not None  # noqa: S101 - the spec is checked
    _check_layout(values, params)
    scores = score(params.policy, values, params.activation, layout=params.layout)
    sure = scores >= threshold
    policy = Policy(
        policy=params.policy,
        output=params.output,
        activation=params.activation,
        threshold=threshold,
        coverage=float(sure.mean()),
        digest=model_digest,
        cloud_model=params.cloud,
        layout=params.layout,
    )
    return Facts(
        policy=policy,
        calibration="",
        tuned=0,
        tested=len(scores),
        kept=int(sure.sum()),
        errors=None,
        bound=None,
        chosen=_points(scores, None, None, params, at=[threshold])[0],
        frontier=_points(scores, None, None, params),
    )


def _edge_answers(inputs: Inputs, params: Params) -> tuple[Array, Array | None]:
    """The output of every row, and the labels where the policy needs them; checked."""
    runner = _runtimes.load(inputs.model, params.runtime, _runtimes.Options(params.threads))
    stored = _data.read(inputs.data / _judge.FILE)
    samples = _data.check(stored, runner.inputs, _judge.FILE, params.samples)
    if samples.rows < FEWEST:
        raise DataError(
            f"{_judge.FILE} has {samples.rows} rows, too few to say when the model is sure; "
            f"save hundreds, at least {FEWEST}"
        )
    outputs = [tensor.name for tensor in runner.outputs]
    if params.output not in outputs:
        raise DataError(
            f"the policy reads the output '{params.output}', which the model does not have; "
            f"{did_you_mean(params.output, outputs)}"
        )
    values = _answers.run_all(runner, samples)[params.output]
    if values.ndim < 1 or len(values) != samples.rows or values.dtype.kind != "f":
        raise DataError(
            f"'{params.output}' is {values.dtype} {list(values.shape)} for {samples.rows} rows; "
            "the policy needs an output of floating-point numbers with one entry a row"
        )
    if params.policy == "max_score":
        return values, None
    _check_activation(values, params)
    wanted = {"label": params.label}
    every = params.samples is None
    labels = _data.labels(stored, wanted, samples.rows, _judge.FILE, every)["label"].reshape(-1)
    # Refuses labels that are no classes of the model, and outputs that are no numbers.
    logits = logits_of(values, params.activation)
    _metrics.compute("accuracy", {"scores": logits}, {"label": labels}, {})
    return values, labels


def _check_layout(values: Array, params: Params) -> None:
    """Boxes taken for scores would make every image sure."""
    what = f"'{params.output}' is {list(values.shape)}"
    if params.layout == "scores":
        if detections.looks_like(values.shape) and values[:, 4:].max() <= 1 < values[:, :4].max():
            raise DataError(
                f"{what} and looks like boxes and scores in one; write `layout: ultralytics`"
            )
        return
    why = detections.wrong(values.shape) if values.ndim == 3 else "has another number of axes"
    if not why and not ((values[:, 4:] >= 0).all() and (values[:, 4:] <= 1).all()):
        why = "holds more than probabilities from channel 4 on"
    if why:
        raise DataError(
            f"{what} and {why}; `layout: {params.layout}` needs a detector's [n, 4 + classes, k]"
        )


def _check_activation(values: Array, params: Params) -> None:
    """Probabilities taken for logits, or the reverse, would give a meaningless temperature."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    within = bool((flat >= -1e-3).all() and (flat <= 1 + 1e-3).all())
    sums = flat.shape[1] == 1 or bool(np.allclose(flat.sum(axis=1), 1.0, atol=0.02))
    if params.activation == "logits" and within and sums:
        raise DataError(
            f"'{params.output}' holds probabilities, not logits; write `activation: probabilities`"
        )
    if params.activation == "probabilities" and not within:
        raise DataError(
            f"'{params.output}' has values outside 0..1, so they are no probabilities; "
            "write `activation: logits`"
        )


def _cloud_answers(inputs: Inputs, params: Params, shape: Sequence[int]) -> Array:
    """What the cloud's model answers to the same rows, in the output of the same name."""
    name = f"cloud model '{params.cloud}'"
    assert inputs.cloud is not None  # noqa: S101
    try:
        runner = _runtimes.load(inputs.cloud, "onnxruntime", _runtimes.Options(optimize=False))
        samples = _data.samples(inputs.data / _judge.FILE, runner.inputs, params.samples)
        values = _answers.run_all(runner, samples).get(params.output)
    except RepoBuilderError as failure:
        raise ModelError(f"{name} cannot answer for the edge: {failure}") from None
    if values is None:
        raise ModelError(
            f"{name} has no output '{params.output}', so it cannot answer for the edge"
        )
    if values.shape[1:] != tuple(shape):
        raise ModelError(
            f"{name}: its '{params.output}' is {list(values.shape[1:])} a row, "
            f"the edge's is {list(shape)}; use models of the same classes"
        )
    return values


def _points(
    scores: Floats,
    right: Bools | None,
    other: Bools | None,
    params: Params,
    at: Sequence[float] = (),
) -> tuple[Point, ...]:
    """The points from all rows at the edge to none, or those `at` thresholds; see `Point`."""
    unknown = np.ones(len(scores), np.bool_)
    points = confidence.frontier(
        scores,
        unknown if right is None else right,
        unknown if other is None else other,
        edge_latency=0.0,
        cloud_latency=(params.cloud_latency_ms or 0.0) / 1e3,
        cloud_cost=params.cloud_cost,
        at=at,
    )
    return tuple(
        Point(
            point.threshold,
            point.coverage,
            None if right is None else point.edge_error,
            None if right is None or other is None else point.total_error,
            None if params.cloud_latency_ms is None else 1e3 * point.latency,
            point.cost,
        )
        for point in points
    )


def _contents(folder: Path) -> Mapping[str, str]:
    """Name -> sha256 of the files of an artifact's folder; their digest is the artifact's."""
    return {
        path.relative_to(folder).as_posix(): digest.of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
