"""What holds of the metrics whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repo_builder.steps._metrics import compute


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_auroc_is_sklearns_for_any_ties(seed: int, digits: int) -> None:
    random = np.random.default_rng(seed)
    anomaly = random.integers(0, 2, 40)
    assume(0 < anomaly.sum() < 40)
    score = np.round(random.standard_normal(40), digits)
    value = compute("auroc", {"reconstruction": score[:, None]}, {"anomaly": anomaly}, {})
    assert value == pytest.approx(reference.roc_auc_score(anomaly, score))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_map50_is_a_share_and_perfect_for_the_truth(
    seed: int, images: int, most: int, classes: int
) -> None:
    random = np.random.default_rng(seed)
    # On a grid of cells, so that no two true boxes of an image overlap.
    cells = np.stack([random.permutation(16)[:most] for _ in range(images)])
    corners = np.stack([cells % 4, cells // 4], axis=-1) * 10.0
    boxes = np.concatenate([corners, corners + random.uniform(5, 9, corners.shape)], axis=-1)
    true_classes = random.integers(-1, classes, (images, most))
    assume((true_classes >= 0).any())
    labels = {"true_boxes": boxes, "true_classes": true_classes}
    sure = np.eye(classes)[np.clip(true_classes, 0, None)] * (true_classes >= 0)[..., None]
    assert compute("map50", {"boxes": boxes, "scores": sure}, labels, {}) == pytest.approx(1)
    guess = {"boxes": boxes + random.normal(0, 3, boxes.shape), "scores": random.random(sure.shape)}
    value = compute("map50", guess, labels, {})
    assert 0 <= value <= 1
    order = random.permutation(most)
    shuffled = {name: array[:, order] for name, array in guess.items()}
    assert compute("map50", shuffled, labels, {}) == pytest.approx(value)
