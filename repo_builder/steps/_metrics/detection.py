"""Detectors: mean average precision, of separate boxes and scores or of Ultralytics' one output."""

from __future__ import annotations

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics.arrays import Array, Arrays, require_classes

IOU = 0.5
"""Overlap from which a box counts as found, and from which one of two boxes is suppressed."""

MIN_SCORE = 0.01
"""Boxes less sure than this are dropped: they cost time and move no precision worth telling."""


def map50(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
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
    require_classes("true_classes", known, len(known), scores.shape[2])
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


def map50_ultralytics(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:
    """As `map50`, of one output [rows, 4 + classes, n] as Ultralytics exports detectors.

    Its first four channels are center x, center y, width and height in pixels of the input, the
    others the classes' probabilities.
    """
    found = outputs["detections"]
    if found.ndim != 3 or found.shape[1] < 5:
        raise DataError(
            f"map50_ultralytics: the output is {list(found.shape)}; it must be "
            "[rows, 4 + classes, n]"
        )
    center, size = found[:, 0:2], found[:, 2:4]
    corners = np.concatenate([center - size / 2, center + size / 2], axis=1)
    parts = {"boxes": corners.transpose(0, 2, 1), "scores": found[:, 4:].transpose(0, 2, 1)}
    return map50(parts, labels, inputs)
