from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics import compute, drop, overlap, own
from repo_builder.steps._metrics.text import edits

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


def test_f1_of_scores_probabilities_and_classes_is_sklearns() -> None:
    found = SCORES.argmax(axis=1)
    wanted = reference.f1_score(LABEL, found, average="macro")
    for given in (SCORES, found, found[:, None]):
        assert compute("f1", {"scores": given}, {"label": LABEL}, {}) == pytest.approx(wanted)
    names = np.array([f"c{cls}" for cls in LABEL], dtype=object)
    texts = np.array([f"c{cls}" for cls in found])
    assert compute("f1", {"scores": texts}, {"label": names}, {}) == pytest.approx(wanted)
    binary, chance = (LABEL > 3).astype(int), 1 / (1 + np.exp(-SCORES[:, 0]))
    assert compute("f1", {"scores": chance[:, None]}, {"label": binary}, {}) == pytest.approx(
        reference.f1_score(binary, chance >= 0.5)
    )


def test_accuracy_of_a_model_that_answers_with_classes() -> None:
    found = np.where(RANDOM.random(300) < 0.8, LABEL, 0)
    for given, label in (
        (found, LABEL),
        (found.astype(str).astype(object), LABEL.astype(str)),
        (np.array([str(v).encode() for v in found], dtype=object), LABEL),
    ):
        measured = compute("accuracy", {"scores": given}, {"label": label}, {})
        assert measured == pytest.approx(float(np.mean(found == LABEL)))
    with pytest.raises(DataError, match="299 entries for 300"):
        compute("accuracy", {"scores": found}, {"label": LABEL[:-1]}, {})


def test_roc_auc_is_sklearns() -> None:
    binary = (LABEL > 3).astype(np.int64)
    for given in (SCORES[:, :1], np.stack([-SCORES[:, 0], SCORES[:, 0]], axis=1)):
        assert compute("roc_auc", {"scores": given}, {"label": binary}, {}) == pytest.approx(
            reference.roc_auc_score(binary, SCORES[:, 0])
        )
    chances = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
    assert compute("roc_auc", {"scores": chances}, {"label": LABEL}, {}) == pytest.approx(
        reference.roc_auc_score(LABEL, chances, multi_class="ovr")
    )
    with pytest.raises(DataError, match="both kinds"):
        compute("roc_auc", {"scores": SCORES[:, :1]}, {"label": np.zeros(300, np.int64)}, {})


def test_miou_is_sklearns_and_leaves_out_what_is_not_judged() -> None:
    mask = RANDOM.integers(0, 4, (5, 8, 8))
    scores = RANDOM.standard_normal((5, 4, 8, 8)) + 2 * np.eye(4)[mask].transpose(0, 3, 1, 2)
    found = scores.argmax(axis=1)
    wanted = reference.jaccard_score(mask.ravel(), found.ravel(), average="macro")
    assert compute("miou", {"scores": scores}, {"mask": mask}, {}) == pytest.approx(wanted)
    assert compute("miou", {"scores": found}, {"mask": mask}, {}) == pytest.approx(wanted)
    part = mask.copy()
    part[0], part[1] = 255, -1
    assert compute("miou", {"scores": scores}, {"mask": part}, {}) == pytest.approx(
        reference.jaccard_score(mask[2:].ravel(), found[2:].ravel(), average="macro")
    )
    with pytest.raises(DataError, match=r"the model.s is \[5, 8, 8\]"):
        compute("miou", {"scores": scores}, {"mask": mask[:, :4]}, {})


def test_rmse_is_the_root_of_mse() -> None:
    value, target = {"value": SCORES}, {"target": SCORES + 2.0}
    assert compute("rmse", value, target, {}) == pytest.approx(2.0)
    assert drop("rmse", 1.0, 1.5) == 0.5


ALPHABET = np.array(["", "a", "b", " ", "c"])


def _ctc(*texts: str, steps: int = 24) -> Any:
    """Scores [rows, steps, classes] whose best path spells each text."""
    scores = np.full((len(texts), steps, len(ALPHABET)), -5.0)
    for row, text in enumerate(texts):
        path = [0]
        for letter in text:
            path += [list(ALPHABET).index(letter)] * 2 + [0]
        for step in range(steps):
            scores[row, step, path[step] if step < len(path) else 0] = 5.0
    return scores


@pytest.mark.parametrize("time_first", [False, True])
def test_error_rates_of_greedy_ctc(time_first: bool) -> None:
    scores = _ctc("aab", "ab c", "b")
    if time_first:
        scores = scores.transpose(1, 0, 2)
    labels = {"text": np.array(["aab", "ab b", "cb"]), "alphabet": ALPHABET}
    # one replacement and one insertion in 9 characters; two words of four are wrong
    assert compute("cer", {"scores": scores}, labels, {}) == pytest.approx(2 / 9)
    assert compute("wer", {"scores": scores}, labels, {}) == pytest.approx(2 / 4)


def test_an_alphabet_without_a_blank_is_refused() -> None:
    labels = {"text": np.array(["a"]), "alphabet": np.array(["x", "a", "b", " ", "c"])}
    with pytest.raises(DataError, match="blank"):
        compute("cer", {"scores": _ctc("a")}, labels, {})


@pytest.mark.parametrize(
    ("found", "truth", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("a", "a", 0)],
)
def test_edits_are_levenshteins(found: str, truth: str, distance: int) -> None:
    assert edits(found, truth) == distance


def test_recall_of_the_nearest_other_row() -> None:
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3], [1, 1]], dtype=np.float32)
    label = np.array([7, 7, 8, 7, 9])
    # rows 0 and 1 find each other, row 3 finds row 2; rows 2 and 4 have no fellow
    assert compute("recall1", {"embedding": vectors}, {"label": label}, {}) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="needs pairs"):
        compute("recall1", {"embedding": vectors}, {"label": np.arange(5)}, {})


def test_one_output_as_ultralytics_has_it_equals_boxes_and_scores() -> None:
    corners = np.sort(RANDOM.uniform(0, 100, (3, 2, 6, 2)), axis=1)  # [rows, low/high, n, xy]
    boxes = np.concatenate([corners[:, 0], corners[:, 1]], axis=2)
    scores = RANDOM.random((3, 6, 4))
    truth = {"true_boxes": boxes[:, :2], "true_classes": scores[:, :2].argmax(axis=2)}
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    one = np.concatenate([center, size, scores], axis=2).transpose(0, 2, 1)
    assert compute("map50_ultralytics", {"detections": one}, truth, {}) == pytest.approx(
        compute("map50", {"boxes": boxes, "scores": scores}, truth, {})
    )
    with pytest.raises(DataError, match="4 . classes"):
        compute("map50_ultralytics", {"detections": one[:, :4]}, truth, {})


def _own(tmp_path: Path, code: str, function: str = "score") -> float:
    (tmp_path / "metric.py").write_text(code)
    outputs, arrays = {"y": np.array([[1.0], [3.0]])}, {"truth": np.array([1.0, 1.0])}
    return own.compute(tmp_path, own.Own(function, higher_is_better=False), outputs, arrays)


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    code = "import numpy as np\ndef score(outputs, arrays):\n"
    assert _own(tmp_path, f"{code}    return np.max(outputs['y'][:, 0] - arrays['truth'])\n") == 2.0
    assert drop("own", 1.0, 1.5, own.Own("score", higher_is_better=False)) == 0.5
    assert drop("own", 1.0, 1.5, own.Own("score", higher_is_better=True)) == -0.5


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def scor(o, a): return 1", r"no function 'score'; did you mean 'scor'\?"),
        ("def score(o, a): return o['z']", r"score\(\) of metric.py failed: KeyError: 'z', line 1"),
        ("def score(o, a): return o['y']", r"not one finite number"),
        ("def score(o, a): return float('nan')", r"not one finite number"),
        ("import no_such_module", r"cannot be loaded: ModuleNotFoundError: .*line 1"),
        ("def score(:", r"cannot be loaded: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_function_of_the_users_own(
    tmp_path: Path, code: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        _own(tmp_path, code)
