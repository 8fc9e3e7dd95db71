"""The metrics that a spec can name: what each needs, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from repo_builder.spec.types import MetricName


@dataclass(frozen=True)
class Requirement:
    """What a metric reads: arrays of the evaluation file, and outputs of the model."""

    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    higher_is_better: bool


REQUIRES: Mapping[MetricName, Requirement] = {
    "accuracy": Requirement(("label",), ("scores",), True),
    "top5": Requirement(("label",), ("scores",), True),
    "map50": Requirement(("true_boxes", "true_classes"), ("boxes", "scores"), True),
    "auroc": Requirement(("anomaly",), ("reconstruction",), True),
    "mse": Requirement(("target",), ("value",), False),
    "mae": Requirement(("target",), ("value",), False),
}
