"""Task metrics in numpy. What each reads and which way is better: `repo_builder.spec.metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import DataError
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.types import MetricName

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

IOU = 0.5
"""Overlap from which a box counts as found, and from which one of two boxes is suppressed."""

MIN_SCORE = 0.01
"""Boxes less sure than this are dropped: they cost time and move no precision worth telling."""


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


def drop(metric: MetricName, source: float, built: float) -> float:
    """How much worse `built` is than `source`, in the metric's own unit; negative is better."""
    return source - built if REQUIRES[metric].higher_is_better else built - source


def _top(count: int) -> Callable[[Arrays, Arrays, Arrays], float]:
    def top(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
        """The share of rows whose label is among the `count` highest scores [rows, classes].

        Equal scores count for the class of the lower number, as argmax does.
        """
        scores, label = _rows(outputs["scores"]), labels["label"].reshape(-1)
        _require_classes("label", label, len(scores), scores.shape[1])
        first = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return float(np.mean(np.any(first == label[:, None], axis=1)))

    return top


def _require_classes(name: str, label: Array, rows: int, classes: int) -> None:
    if label.dtype.kind not in "iu" or len(label) != rows:
        raise DataError(
            f"'{name}' is {label.dtype} with {len(label)} entries; the metric needs one integer "
            f"for each of {rows} rows"
        )
    if label.min() < 0 or label.max() >= classes:
        raise DataError(
            f"'{name}' has classes {label.min()}..{label.max()}; the model has {classes}: "
            f"0..{classes - 1}"
        )


def _auroc(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:
    """Area under the ROC curve: the chance that an anomaly scores above a normal row.

    Mann-Whitney's U over ranks, ties as half. The score of a row is the mean squared difference
    between reconstruction and input, or the output itself where that is one number a row.
    """
    scores = _anomaly_scores(_rows(outputs["reconstruction"]), inputs)
    label = labels["anomaly"].reshape(-1).astype(np.int64)
    if len(label) != len(scores) or set(np.unique(label)) != {0, 1}:
        raise DataError(
            f"'anomaly' must have 0 or 1 for each of {len(scores)} rows, and both of them"
        )
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where.reshape(-1)]
    positives = int(label.sum())
    wins = ranks[label == 1].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(label) - positives)))


def _anomaly_scores(output: Array, inputs: Arrays) -> Array:
    if output.shape[1] == 1:
        return output[:, 0]
    for array in inputs.values():
        if _rows(array).shape == output.shape:
            return np.asarray(np.mean((_rows(array) - output) ** 2, axis=1))
    raise DataError(
        f"auroc: the output has {output.shape[1]} values a row, as no input of the model; "
        "it must be a reconstruction of the input, or one score a row"
    )


def _difference(outputs: Arrays, labels: Arrays) -> Array:
    value, target = _rows(outputs["value"]), _rows(labels["target"])
    if value.shape != target.shape:
        raise DataError(
            f"'target' has {target.shape[1]} values a row, the model's output {value.shape[1]}"
        )
    return value - target


def _mse(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Mean squared error over all values of all rows."""
    return float(np.mean(_difference(outputs, labels) ** 2))


def _mae(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Mean absolute error over all values of all rows."""
    return float(np.mean(np.abs(_difference(outputs, labels))))


def _map50(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Mean over classes of the average precision at an overlap of 0.5.

    All-point interpolation as in the Pascal VOC devkit since 2010. Boxes [rows, n, 4] are corners
    x1, y1, x2, y2, scores [rows, n, classes]; suppression is per class. True boxes [rows, m, 4]
    have classes [rows, m], -1 where there is none.
    """
    boxes, scores = outputs["boxes"], outputs["scores"]
    true_boxes, true_classes = labels["true_boxes"], labels["true_classes"]
    known = np.unique(true_classes[true_classes >= 0])
    if boxes.shape[:2] != scores.shape[:2] or boxes.shape[-1] != 4:
        raise DataError(
            f"map50: boxes {list(boxes.shape)} and scores {list(scores.shape)} must be "
            "[rows, n, 4] and [rows, n, classes]"
        )
    if true_boxes.shape != (*true_classes.shape, 4) or not known.size:
        raise DataError(
            "map50: true_boxes must be [rows, m, 4], true_classes [rows, m], not all -1"
        )
    _require_classes("true_classes", known, len(known), scores.shape[2])
    precisions = []
    for cls in known:
        found: list[tuple[float, bool]] = []
        for row in range(len(boxes)):
            truth = true_boxes[row][true_classes[row] == cls]
            found += _hits(boxes[row], scores[row, :, cls], truth)
        precisions.append(_average_precision(found, int(np.sum(true_classes == cls))))
    return float(np.mean(precisions))


def _hits(boxes: Array, scores: Array, truth: Array) -> list[tuple[float, bool]]:
    """Score of each box kept after suppression, and whether it finds a true box not found yet."""
    sure = scores >= MIN_SCORE
    boxes, scores = boxes[sure], scores[sure]
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    clashes = overlap(boxes, boxes) > IOU
    matches = overlap(boxes, truth)
    kept: list[int] = []
    taken: set[int] = set()
    hits = []
    for index in range(len(boxes)):
        if clashes[index, kept].any():
            continue
        kept.append(index)
        best = int(matches[index].argmax()) if len(truth) else -1
        hit = best >= 0 and matches[index, best] >= IOU and best not in taken
        if hit:
            taken.add(best)
        hits.append((float(scores[index]), hit))
    return hits


def _average_precision(found: list[tuple[float, bool]], truths: int) -> float:
    """Area under the precision-recall curve made monotone from the right."""
    hits = np.array([hit for _, hit in sorted(found, key=lambda entry: -entry[0])], dtype=float)
    correct = np.cumsum(hits)
    precision = correct / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(correct / truths, prepend=0.0) * envelope))


def overlap(boxes: Array, others: Array) -> Array:
    """Intersection over union of boxes [n, 4] and [m, 4] (x1, y1, x2, y2), as [n, m]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    area, other = (np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1) for b in (boxes, others))
    union = area[:, None] + other[None] - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def _rows(array: Array) -> Array:
    """[rows, everything else], in float64."""
    return np.asarray(array, dtype=np.float64).reshape(len(array), -1)


_METRICS: Mapping[MetricName, Callable[[Arrays, Arrays, Arrays], float]] = {
    "accuracy": _top(1),
    "top5": _top(5),
    "map50": _map50,
    "auroc": _auroc,
    "mse": _mse,
    "mae": _mae,
}
