"""The metrics that a spec can name: what each needs, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from repo_builder.spec.types import MetricName


@dataclass(frozen=True)
class Requirement:
    """What a metric reads: arrays of the evaluation file, and outputs of the model.

    An `own` one reads all arrays and outputs, and says itself which way is better. `labels` have
    one entry a row, `constants` are arrays of the file that are the same for all.
    """

    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    higher_is_better: bool
    constants: tuple[str, ...] = ()


REQUIRES: Mapping[MetricName, Requirement] = {
    "accuracy": Requirement(("label",), ("scores",), True),
    "top5": Requirement(("label",), ("scores",), True),
    "f1": Requirement(("label",), ("scores",), True),
    "roc_auc": Requirement(("label",), ("scores",), True),
    "map50": Requirement(("true_boxes", "true_classes"), ("boxes", "scores"), True),
    "auroc": Requirement(("anomaly",), ("reconstruction",), True),
    "map50_ultralytics": Requirement(("true_boxes", "true_classes"), ("detections",), True),
    "miou": Requirement(("mask",), ("scores",), True),
    "mse": Requirement(("target",), ("value",), False),
    "rmse": Requirement(("target",), ("value",), False),
    "mae": Requirement(("target",), ("value",), False),
    "cer": Requirement(("text",), ("scores",), False, constants=("alphabet",)),
    "wer": Requirement(("text",), ("scores",), False, constants=("alphabet",)),
    "recall1": Requirement(("label",), ("embedding",), True),
    "own": Requirement((), (), True),
}

IN_POINTS = frozenset(
    ("accuracy", "top5", "f1", "roc_auc", "map50", "auroc", "map50_ultralytics", "miou", "recall1")
)
"""Metrics from 0 to 1, higher is better, of which a hundredth is a point."""
