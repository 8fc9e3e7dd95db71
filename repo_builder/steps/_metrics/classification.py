"""Classifiers: scores [rows, classes], one probability a row, or the classes themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics.arrays import Array, Arrays, require_classes, rows


def top(count: int) -> Callable[[Arrays, Arrays, Arrays], float]:
    """The share of rows whose label is among the `count` highest scores [rows, classes]."""

    def share(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
        return float(np.mean(hits(count, outputs, labels)))

    return share


def hits(count: int, outputs: Arrays, labels: Arrays) -> Array:
    """Of each row, whether its label is among the `count` highest scores: [rows], bool.

    Equal scores count for the class of the lower number, as argmax does.
    """
    given, label = outputs["scores"], labels["label"].reshape(-1)
    if count == 1 and is_label(given):
        return _same_kind(given.reshape(-1), label)
    scores = rows(given)
    require_classes("label", label, len(scores), scores.shape[1])
    first = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.asarray(np.any(first == label[:, None], axis=1))


def is_label(output: Array) -> bool:
    """Whether an output holds one class a row, as scikit-learn's classifiers have beside scores."""
    return output.dtype.kind in "iuUSOb" and output.size == len(output)


def _same_kind(found: Array, label: Array) -> Array:
    """Row by row, whether two lists of classes agree; strings as text."""
    if len(found) != len(label):
        raise DataError(f"'label' has {len(label)} entries for {len(found)} rows")
    if found.dtype.kind in "USO" or label.dtype.kind in "USO":
        found, label = _text(found), _text(label)
    return np.asarray(found == label)


def _text(array: Array) -> Array:
    """Strings as Python has them; ONNX Runtime gives them as objects, some tools as bytes."""
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in array], dtype=object)


def f1(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """F1, the harmonic mean of precision and recall; of several classes their plain mean (macro).

    One probability a row is a binary classifier's: class 1 from 0.5 on, and F1 is that class's.
    """
    given, label = outputs["scores"], labels["label"].reshape(-1)
    if is_label(given):
        found = given.reshape(-1)
        if found.dtype.kind in "USO" or label.dtype.kind in "USO":
            found, label = _text(found), _text(label)
    elif rows(given).shape[1] == 1:
        found = (rows(given)[:, 0] >= 0.5).astype(np.int64)
        require_classes("label", label, len(found), 2)
        return _f1_of(found, label, 1)
    else:
        scores = rows(given)
        require_classes("label", label, len(scores), scores.shape[1])
        found = scores.argmax(axis=1)
    if len(found) != len(label):
        raise DataError(f"'label' has {len(label)} entries for {len(found)} rows")
    classes = sorted({*found.tolist(), *label.tolist()})
    return float(np.mean([_f1_of(found, label, cls) for cls in classes]))


def _f1_of(found: Array, label: Array, cls: object) -> float:
    hits = int(np.sum((found == cls) & (label == cls)))
    everything = int(np.sum(found == cls)) + int(np.sum(label == cls))
    return 2 * hits / everything if everything else 0.0


def roc_auc(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Area under the ROC curve; of more than two classes the mean of each against the rest."""
    scores, label = rows(outputs["scores"]), labels["label"].reshape(-1)
    classes = max(2, scores.shape[1])
    require_classes("label", label, len(scores), classes)
    if classes == 2:
        return area_under_roc(scores[:, -1], label == 1)
    present = [cls for cls in range(classes) if 0 < np.sum(label == cls) < len(label)]
    return float(np.mean([area_under_roc(scores[:, cls], label == cls) for cls in present]))


def auroc(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:
    """Area under the ROC curve of an anomaly score against `anomaly`, 0 or 1 a row.

    The score of a row is the mean squared difference between reconstruction and input, or the
    output itself where that is one number a row.
    """
    scores = _anomaly_scores(rows(outputs["reconstruction"]), inputs)
    label = labels["anomaly"].reshape(-1).astype(np.int64)
    if len(label) != len(scores) or set(np.unique(label)) != {0, 1}:
        raise DataError(
            f"'anomaly' must have 0 or 1 for each of {len(scores)} rows, and both of them"
        )
    return area_under_roc(scores, label == 1)


def area_under_roc(scores: Array, positive: Array) -> float:
    """The chance that a positive row scores above a negative one: Mann-Whitney's U, ties as half.

    DataError where one of the two kinds is missing.
    """
    positives = int(np.sum(positive))
    if not 0 < positives < len(scores):
        raise DataError("an area under the ROC curve needs rows of both kinds")
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where.reshape(-1)]
    wins = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(scores) - positives)))


def _anomaly_scores(output: Array, inputs: Arrays) -> Array:
    if output.shape[1] == 1:
        return output[:, 0]
    for array in inputs.values():
        if rows(array).shape == output.shape:
            return np.asarray(np.mean((rows(array) - output) ** 2, axis=1))
    raise DataError(
        f"auroc: the output has {output.shape[1]} values a row, as no input of the model; "
        "it must be a reconstruction of the input, or one score a row"
    )
