"""What a spec's `fallback` means with the spec's data, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repo_builder.spec import types
from repo_builder.spec.raw import RawSpec

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told a problem: the field, what is wrong, what to write."""

_CLASSIFIER = ("accuracy", "top5")


def fallback(
    raw: RawSpec, evaluation: types.Evaluation | None, file: Callable[[str], Path], tell: Tell
) -> types.Fallback | None:
    """The resolved `fallback` of `raw`; None where there is none, or `tell` was told why.

    `file` makes a path of the spec absolute.
    """
    asked, own = raw.fallback, raw.data.confidence
    if asked is None:
        return None
    detector = asked.policy == "max_score"
    if (asked.max_error is None) == (asked.threshold is None):
        given = "both are" if asked.threshold is not None else "neither is"
        what = f"{given} given of max_error and threshold"
        tell(("fallback",), what, "write one, e.g. `max_error: 0.02` (null takes the other away)")
    elif detector and asked.threshold is None:
        what = "max_score has no right and wrong answers to count, so no max_error can be promised"
        tell(("fallback", "policy"), what, "write a fixed `threshold` in place of max_error")
    if asked.cloud == raw.name:
        tell(
            ("fallback", "cloud"), "is this model itself", "leave it out where the names are equal"
        )
    if own is None and evaluation is None:
        what = "needs labelled data that the model has not seen"
        tell(("fallback",), what, "add `data: {evaluation: ...}` or `data: {confidence: ...}`")
        return None
    if own is None and not detector and evaluation and evaluation.metric not in _CLASSIFIER:
        what = f"needs the class of every row, which data for {evaluation.metric} does not have"
        tell(("fallback", "policy"), what, "use max_score with a threshold, or add data.confidence")
        return None
    if own and raw.data.calibration and own.path == raw.data.calibration.path:
        what = "is the calibration data too, which the quantized model has seen"
        tell(("data", "confidence", "path"), what, "use other samples")
    outputs = evaluation.outputs if evaluation else {}
    output = asked.output or outputs.get("scores", "") or outputs.get("detections", "")
    layout = asked.layout or (
        "ultralytics" if detector and output == outputs.get("detections") else "scores"
    )
    if layout == "ultralytics" and not detector:
        what = f"{layout}, which only max_score reads"
        tell(("fallback", "layout"), what, "write `policy: max_score` with a threshold")
    if not output:
        tell(("fallback", "output"), "is missing", "write the model's output of scores")
    label, samples = (own.label, own.samples) if own else ("", None)
    if own is None and evaluation is not None:
        label, samples = evaluation.labels.get("label", ""), evaluation.samples
    return types.Fallback(
        policy=asked.policy,
        output=output,
        activation=asked.activation,
        data=file(own.path) if own else evaluation.path if evaluation else Path(),
        label="" if detector else label,
        samples=samples,
        max_error=asked.max_error,
        threshold=asked.threshold,
        confidence_level=asked.confidence_level,
        cloud=asked.cloud,
        cloud_latency_ms=asked.cloud_latency_ms,
        cloud_cost=asked.cloud_cost,
        layout=layout,
    )
