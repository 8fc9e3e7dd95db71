from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics import compute, drop, overlap

RANDOM = np.random.default_rng(0)
LABEL = RANDOM.integers(0, 7, 300)
SCORES = RANDOM.standard_normal((300, 7)) + 1.5 * np.eye(7)[LABEL]


def test_accuracy_and_top5_are_sklearns() -> None:
    scores, label = {"scores": SCORES}, {"label": LABEL}
    assert compute("accuracy", scores, label, {}) == pytest.approx(
        reference.accuracy_score(LABEL, SCORES.argmax(axis=1))
    )
    assert compute("top5", scores, label, {}) == pytest.approx(
        reference.top_k_accuracy_score(LABEL, SCORES, k=5)
    )


@pytest.mark.parametrize(
    "label",
    [LABEL[:-1], LABEL + 1, LABEL - 1, LABEL.astype(np.float32)],
    ids=["fewer", "too large", "negative", "not integers"],
)
def test_labels_that_do_not_match(label: Any) -> None:
    with pytest.raises(DataError, match="'label'"):
        compute("accuracy", {"scores": SCORES}, {"label": label}, {})


def test_auroc_of_scores_with_ties_is_sklearns() -> None:
    anomaly = RANDOM.integers(0, 2, 300)
    score = np.round(RANDOM.standard_normal(300) + anomaly, 1)
    value = compute("auroc", {"reconstruction": score[:, None]}, {"anomaly": anomaly}, {})
    assert value == pytest.approx(reference.roc_auc_score(anomaly, score))


def test_auroc_of_a_reconstruction_is_that_of_its_squared_error() -> None:
    anomaly = RANDOM.integers(0, 2, 100)
    signal = RANDOM.standard_normal((100, 16)).astype(np.float32)
    noise = RANDOM.standard_normal(signal.shape) * (1 + 0.3 * anomaly[:, None])
    rebuilt = (signal + noise).astype(np.float32)
    value = compute("auroc", {"reconstruction": rebuilt}, {"anomaly": anomaly}, {"x": signal})
    error = ((signal.astype(np.float64) - rebuilt) ** 2).mean(axis=1)
    assert value == pytest.approx(reference.roc_auc_score(anomaly, error))
    with pytest.raises(DataError, match="as no input"):
        compute("auroc", {"reconstruction": rebuilt[:, :9]}, {"anomaly": anomaly}, {"x": signal})
    with pytest.raises(DataError, match="both of them"):
        compute("auroc", {"reconstruction": rebuilt}, {"anomaly": anomaly * 0}, {"x": signal})


def test_mse_and_mae_are_sklearns() -> None:
    value, target = RANDOM.standard_normal((2, 50, 4))
    args = {"value": value}, {"target": target}, {}
    assert compute("mse", *args) == pytest.approx(reference.mean_squared_error(target, value))
    assert compute("mae", *args) == pytest.approx(reference.mean_absolute_error(target, value))
    with pytest.raises(DataError, match="'target' has 3 values a row"):
        compute("mse", {"value": value}, {"target": target[:, :3]}, {})


def test_drop_is_positive_where_the_built_model_is_worse() -> None:
    assert drop("accuracy", source=0.9, built=0.8) == pytest.approx(0.1)
    assert drop("mse", source=0.9, built=0.8) == pytest.approx(-0.1)


def test_outputs_that_are_not_finite_have_no_metric() -> None:
    signal = np.ones((4, 3), np.float32)
    with pytest.raises(DataError, match="not finite"):
        compute("mse", {"value": signal * np.inf}, {"target": signal}, {})
    anomaly = np.array([0, 1, 0, 1])
    with pytest.raises(DataError, match="'reconstruction' has NaN"):
        compute("auroc", {"reconstruction": signal * np.nan}, {"anomaly": anomaly}, {"x": signal})


def test_overlap() -> None:
    boxes = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], float)
    others = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [9, 9, 10, 10], [5, 5, 5, 5]], float)
    np.testing.assert_allclose(overlap(boxes, others), [[1, 1 / 7, 0, 0], [0, 0, 0, 0]])


A, B = [0, 0, 10, 10], [20, 20, 30, 30]
NEAR_A, HALF_A = [0, 0, 10, 9], [0, 0, 10, 4]
NOTHING = [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        # Both found by the surest boxes.
        ([A, B, NOTHING], [0.9, 0.8, 0.0], 1.0),
        # Only one of two: recall ends at a half.
        ([A, NOTHING, NOTHING], [0.9, 0.0, 0.0], 0.5),
        # A false box above the second: precisions 1, 1/2, 2/3.
        ([A, [50, 50, 60, 60], B], [0.9, 0.8, 0.7], 0.5 * 1 + 0.5 * 2 / 3),
        # A second box on A is suppressed, so it is no false one.
        ([A, NEAR_A, B], [0.9, 0.8, 0.7], 1.0),
        # Too small an overlap: false, and above the right ones.
        ([HALF_A, A, B], [0.9, 0.8, 0.7], 2 / 3),
        # Surer than A and suppressing it.
        ([NEAR_A, A, B], [0.9, 0.8, 0.7], 1.0),
        # Nothing at all.
        ([NOTHING] * 3, [0.0] * 3, 0.0),
    ],
)
def test_map50_of_one_class(boxes: Any, scores: Any, expected: float) -> None:
    outputs = {"boxes": np.array([boxes], float), "scores": np.array([scores], float)[..., None]}
    labels = {
        "true_boxes": np.array([[A, B, NOTHING]], float),
        "true_classes": np.array([[0, 0, -1]]),
    }
    assert compute("map50", outputs, labels, {}) == pytest.approx(expected)


def test_map50_is_the_mean_over_classes_that_occur() -> None:
    outputs = {
        "boxes": np.array([[A, B], [A, B]], float),
        "scores": np.array([[[0.9, 0, 0], [0, 0.8, 0]], [[0.7, 0, 0], [0, 0, 0.9]]]),
    }
    labels = {
        "true_boxes": np.array([[A, B], [B, NOTHING]], float),
        "true_classes": np.array([[0, 1], [1, -1]]),
    }
    # Class 0: found at once (the second image's box comes after). Class 1: one of two found.
    assert compute("map50", outputs, labels, {}) == pytest.approx((1.0 + 0.5) / 2)


def test_map50_of_arrays_that_do_not_match() -> None:
    boxes, scores = np.zeros((1, 2, 4)), np.zeros((1, 2, 3))
    truth, classes = np.zeros((1, 1, 4)), np.zeros((1, 1), int)
    for outputs, labels, expected in (
        ((boxes[:, :1], scores), (truth, classes), "must be"),
        ((boxes, scores), (truth[:, :, :3], classes), "true_boxes must be"),
        ((boxes, scores), (truth, classes - 1), "not all -1"),
        ((boxes, scores), (truth, classes + 3), "the model has 3"),
    ):
        with pytest.raises(DataError, match=expected):
            compute(
                "map50",
                dict(zip(("boxes", "scores"), outputs, strict=True)),
                dict(zip(("true_boxes", "true_classes"), labels, strict=True)),
                {},
            )
