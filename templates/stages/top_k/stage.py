"""Scores of classes -> the best of them, with labels."""

import json

import numpy as np


class Stage:
    """`scores` [rows, classes] -> `label`, `score` and `class` [rows, k], best first."""

    def __init__(self, folder):
        said = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        self._k, self._softmax = said["k"], said["softmax"]
        self._labels = np.array([label.encode() for label in said["labels"]], dtype=object)

    def run(self, feeds):
        """All outputs by name; of equal scores the first class comes first."""
        scores = feeds["scores"].astype(np.float32)
        if self._softmax:
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        return {
            "label": self._labels[best],
            "score": np.take_along_axis(scores, best, axis=1),
            "class": best.astype(np.int64),
        }
