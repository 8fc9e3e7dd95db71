"""Task metrics in numpy. What each reads and which way is better: `repo_builder.spec.metrics`.

One module for each kind of task; `compute` is the face. A metric is a function of outputs, labels
and inputs, by the metric's own names for them, and gives one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName
from repo_builder.steps._metrics import (
    classification,
    detection,
    regression,
    retrieval,
    segmentation,
    text,
)
from repo_builder.steps._metrics.arrays import Array, Arrays
from repo_builder.steps._metrics.detection import overlap
from repo_builder.steps._metrics.own import Own

__all__ = ["PER_ROW", "Own", "compute", "drop", "overlap"]


def compute(metric: MetricName, outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:
    """The metric of all rows. `outputs` and `labels` go by the metric's own names for them.

    `inputs` are the model's inputs by name; a reconstruction is compared with the one of its
    shape. DataError where labels and outputs do not fit together.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise DataError(f"{metric}: the model's output for '{name}' has NaN")
    value = float(_METRICS[metric](outputs, labels, inputs))
    if not np.isfinite(value):
        raise DataError(f"{metric} is {value}: the model's outputs are not finite")
    return value


def drop(metric: MetricName, source: float, built: float, own: Own | None = None) -> float:
    """How much worse `built` is than `source`, in the metric's own unit; negative is better.

    `own` says of a metric of the user's which way is better.
    """
    higher_is_better = (own or REQUIRES[metric]).higher_is_better
    return source - built if higher_is_better else built - source


_METRICS: Mapping[str, Callable[[Arrays, Arrays, Arrays], float]] = {
    "accuracy": classification.top(1),
    "top5": classification.top(5),
    "f1": classification.f1,
    "roc_auc": classification.roc_auc,
    "auroc": classification.auroc,
    "map50": detection.map50,
    "map50_ultralytics": detection.map50_ultralytics,
    "miou": segmentation.miou,
    "mse": regression.mse,
    "rmse": regression.rmse,
    "mae": regression.mae,
    "cer": text.cer,
    "wer": text.wer,
    "recall1": retrieval.recall1,
}

PER_ROW: Mapping[MetricName, Callable[[Arrays, Arrays], Array]] = {
    "accuracy": partial(classification.hits, 1),
    "top5": partial(classification.hits, 5),
    "mse": partial(regression.errors, 2),
    "mae": partial(regression.errors, 1),
}
"""Metrics that are the mean of one value of each row: what gives these, [rows]."""
