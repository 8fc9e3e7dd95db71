"""What a spec says of how models are judged, as params of the steps that judge them."""

from __future__ import annotations

from repo_builder.base.digest import Json
from repo_builder.spec.types import Spec


def params(spec: Spec) -> dict[str, Json]:
    """The params of every step that reads evaluation data."""
    evaluation = spec.evaluation
    if evaluation is None:
        return {}
    found: dict[str, Json] = {
        "metric": evaluation.metric,
        "labels": dict(evaluation.labels),
        "outputs": dict(evaluation.outputs),
        "samples": evaluation.samples,
    }
    if evaluation.part is not None:
        found["part"] = evaluation.part
    if own := evaluation.own:
        found["own"] = {"function": own.function, "higher_is_better": own.higher_is_better}
    return found


def allowed(spec: Spec) -> dict[str, Json]:
    """How far the built model may lie from the source, and what tells so."""
    widened = spec.gates.max_difference
    classifiers = set(spec.serving.labels)
    if spec.evaluation is not None and spec.evaluation.metric in ("accuracy", "top5", "f1"):
        classifiers.add(spec.evaluation.outputs["scores"])
    return {
        "precision": spec.optimize.precision,
        "widened": dict(widened.limits) if widened else {},
        "classifiers": sorted(classifiers),
        "confidence": spec.gates.confidence,
        **({"derived": sorted(spec.postprocess.outputs)} if spec.postprocess else {}),
    }
