"""Embeddings: whether what belongs together lies together."""

from __future__ import annotations

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics.arrays import Arrays, rows

_BLOCK = 1024


def recall1(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Recall at 1: the share of rows whose nearest other row, by cosine, has the same label.

    `embedding` is [rows, d]; rows whose label no other row has do not count.
    """
    vectors, label = rows(outputs["embedding"]), labels["label"].reshape(-1)
    if len(label) != len(vectors):
        raise DataError(f"'label' has {len(label)} entries for {len(vectors)} rows")
    values, where, counts = np.unique(label, return_inverse=True, return_counts=True)
    asked = np.flatnonzero(counts[where.reshape(-1)] > 1)
    if not asked.size:
        raise DataError(f"recall1: each of {len(values)} labels is there once; it needs pairs")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    hits = 0
    for start in range(0, len(asked), _BLOCK):
        block = asked[start : start + _BLOCK]
        likeness = unit[block] @ unit.T
        likeness[np.arange(len(block)), block] = -np.inf
        hits += int(np.sum(label[likeness.argmax(axis=1)] == label[block]))
    return hits / len(asked)
