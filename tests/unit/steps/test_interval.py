"""The interval of a difference of scores, for each kind of metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repo_builder.base import statistics
from repo_builder.steps import _data, _interval, _judge
from repo_builder.steps.reference import Params

ROWS = 400
RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 3, ROWS)


def _evaluation(metric: Any, labels: dict[str, Any], outputs: dict[str, str]) -> _judge.Evaluation:
    samples = _data.Samples({"x": np.zeros((ROWS, 1), np.float32)}, {"x": 1}, ROWS)
    params = Params(metric=metric, labels={name: name for name in labels}, outputs=outputs)
    return _judge.Evaluation(samples, labels, params, Path())


def _scores(wrong: list[int]) -> np.ndarray[Any, Any]:
    found = np.eye(3, dtype=np.float32)[LABEL]
    found[wrong] = np.roll(found[wrong], 1, axis=1)
    return found


def test_right_and_wrong_answers_are_counted_in_pairs() -> None:
    evaluation = _evaluation("accuracy", {"label": LABEL}, {"scores": "y"})
    source, built = {"y": _scores([0, 1, 2])}, {"y": _scores([2, 3, 4, 5, 6])}
    found = _interval.of_drop(evaluation, source, built, 2 / ROWS, None)
    assert found == statistics.of_proportions(4, 2, ROWS, 0.95)
    asked = _interval.of_drop(evaluation, source, built, 2 / ROWS, 0.8)
    assert asked == statistics.of_proportions(4, 2, ROWS, 0.8)


def test_errors_are_compared_row_by_row() -> None:
    target = RNG.normal(size=(ROWS, 2))
    evaluation = _evaluation("mse", {"target": target}, {"value": "y"})
    source = {"y": target + RNG.normal(size=target.shape)}
    built = {"y": source["y"] + 0.1}
    worse = ((built["y"] - target) ** 2 - (source["y"] - target) ** 2).mean(axis=1)
    found = _interval.of_drop(evaluation, source, built, float(worse.mean()), None)
    assert found == pytest.approx(statistics.of_mean(worse.tolist(), 0.95))
    assert found is not None
    assert found[0] < worse.mean() < found[1]


def test_other_metrics_are_taken_without_each_group_where_a_gate_asks() -> None:
    evaluation = _evaluation("f1", {"label": LABEL}, {"scores": "y"})
    source, built = {"y": _scores([])}, {"y": _scores(list(range(20)))}
    before, after = evaluation.judge(source), evaluation.judge(built)
    assert before is not None
    assert after is not None
    assert _interval.of_drop(evaluation, source, built, before - after, None) is None
    found = _interval.of_drop(evaluation, source, built, before - after, 0.95)
    exact = statistics.of_proportions(20, 0, ROWS, 0.95)
    assert found == pytest.approx(exact, abs=0.012)  # with three even classes F1 is near accuracy


def test_parts_that_have_one_class_alone_give_no_interval() -> None:
    label = np.zeros(ROWS, np.int64)
    label[0] = 1
    evaluation = _evaluation("roc_auc", {"label": label}, {"scores": "y"})
    answers = {"y": RNG.uniform(size=(ROWS, 2)).astype(np.float32)}
    assert _interval.of_drop(evaluation, answers, answers, 0.0, 0.95) is None


def test_time_may_come_before_rows() -> None:
    alphabet = np.array(["", "a", "b"])
    texts = np.array(["ab" if row % 2 else "ba" for row in range(ROWS)])
    scores = np.zeros((2, ROWS, 3), np.float32)
    for row, text in enumerate(texts):
        for step, letter in enumerate(text):
            scores[step, row, list(alphabet).index(letter)] = 1
    wrong = scores.copy()
    wrong[:, :40] = np.roll(wrong[:, :40], 1, axis=2)
    labels = {"text": texts, "alphabet": alphabet}
    evaluation = _evaluation("cer", labels, {"scores": "y"})
    drop = evaluation.judge({"y": wrong})
    assert drop is not None
    found = _interval.of_drop(evaluation, {"y": scores}, {"y": wrong}, drop, 0.95)
    assert found is not None
    assert found[0] < drop < found[1]
