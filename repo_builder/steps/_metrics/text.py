"""Text from CTC outputs: decoded greedily, then held against the truth by edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics.arrays import Array, Arrays


def cer(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Character error rate: edits from the decoded texts to the true ones, over true characters."""
    return _rate([(list(found), list(text)) for found, text in _texts(outputs, labels)])


def wer(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Word error rate: edits of whole words, which white space parts, over true words."""
    return _rate([(found.split(), text.split()) for found, text in _texts(outputs, labels)])


def _texts(outputs: Arrays, labels: Arrays) -> list[tuple[str, str]]:
    alphabet = [str(letter) for letter in labels["alphabet"]]
    truth = [str(text) for text in labels["text"].reshape(-1)]
    scores = outputs["scores"]
    if scores.ndim == 3 and scores.shape[0] != len(truth) == scores.shape[1]:
        scores = scores.transpose(1, 0, 2)  # time first, as some exporters have it
    if scores.ndim != 3 or scores.shape[0] != len(truth) or scores.shape[2] != len(alphabet):
        raise DataError(
            f"the output is {list(scores.shape)}; for {len(truth)} texts and an alphabet of "
            f"{len(alphabet)} it must be [rows, time, classes]"
        )
    if alphabet.count("") != 1:
        raise DataError("'alphabet' needs one \"\" among its letters: the class of CTC's blank")
    return [(greedy(row, alphabet), text) for row, text in zip(scores, truth, strict=True)]


def greedy(scores: Array, alphabet: Sequence[str]) -> str:
    """The best class of every step [time, classes], repeats merged, blanks ("") left out.

    Graves et al., "Connectionist Temporal Classification", ICML 2006, best path decoding.
    """
    best = scores.argmax(axis=1)
    changed = np.concatenate([[True], best[1:] != best[:-1]])
    return "".join(alphabet[index] for index in best[changed])


def _rate(pairs: list[tuple[list[str], list[str]]]) -> float:
    whole = sum(len(truth) for _, truth in pairs)
    if not whole:
        raise DataError("'text' is empty in every row")
    return sum(edits(found, truth) for found, truth in pairs) / whole


def edits(found: Sequence[Any], truth: Sequence[Any]) -> int:
    """Levenshtein's distance: the least number of insertions, deletions and replacements."""
    row = list(range(len(truth) + 1))
    for i, one in enumerate(found, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(truth, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    return row[-1]
