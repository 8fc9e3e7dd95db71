"""The calibration's mathematics, and its promise, on simulated and on real data."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder.client.models.confidence import Policy, logits_of, score, softmax
from repo_builder.steps import _confidence as confidence

SPECS = Path(__file__).parents[3] / "model_specs"


@given(n=st.integers(1, 3000), data=st.data())
@settings(max_examples=200, deadline=None)
def test_bounds_agree_with_scipy(n, data):
    stats = pytest.importorskip("scipy.stats")
    k = data.draw(st.integers(0, n))
    p = data.draw(st.floats(0.0, 1.0))
    level = data.draw(st.sampled_from([0.9, 0.95, 0.99]))
    assert confidence.binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), abs=1e-9)
    wanted = 1.0 if k == n else stats.beta.ppf(level, k + 1, n - k)
    assert confidence.clopper_pearson_upper(k, n, level) == pytest.approx(wanted, abs=1e-9)


def test_known_bounds():
    # Newcombe 1998, and the rule of three.
    assert confidence.clopper_pearson_upper(0, 59, 0.95) == pytest.approx(0.0495, abs=1e-4)
    assert confidence.samples_needed(0.05, 0.95) == 59
    assert confidence.samples_needed(0.01, 0.95) == 299


def test_scores_mean_what_they_say():
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    p = softmax(logits)
    assert score("max_probability", logits, "logits") == pytest.approx(p.max(1))
    assert score("margin", logits, "logits") == pytest.approx([p[0, 0] - p[0, 1], 0.0])
    assert score("entropy", logits, "logits")[1] == pytest.approx(0.0, abs=1e-9)
    assert score("energy", logits, "logits") == pytest.approx(np.log(np.exp(logits).sum(1)))
    for policy in ("max_probability", "margin", "entropy"):
        by_logits = score(policy, logits, "logits", 1.7)
        by_probabilities = score(policy, p, "probabilities", 1.7)
        assert by_logits == pytest.approx(by_probabilities, abs=1e-6)
    boxes = np.array([[[0.1], [0.9]], [[0.2], [0.0]]])
    assert score("max_score", boxes, "probabilities") == pytest.approx([0.9, 0.2])
    assert score("max_score", np.zeros((2, 0)), "probabilities") == pytest.approx([0.0, 0.0])
    # A single column is one of two classes.
    assert score("max_probability", np.array([[0.0], [3.0]]), "logits")[0] == pytest.approx(0.5)
    assert score("max_probability", np.array([[0.1]]), "probabilities")[0] == pytest.approx(0.9)


def test_a_policy_survives_its_config_parameter_and_later_keys():
    policy = Policy("margin", "logits", temperature=1.3, threshold=None, max_error=0.05)
    assert Policy.from_json(policy.to_json()) == policy
    assert not policy.sure(np.array([0.0, 1.0])).any()
    assert Policy.from_json('{"policy": "energy", "output": "y", "new": 1}').policy == "energy"
    with pytest.raises(ValueError, match="confidence policy 'best'"):
        Policy.from_json('{"policy": "best", "output": "y"}')


def test_a_row_whose_score_is_not_a_number_is_not_sure():
    policy = Policy("max_probability", "y", threshold=0.5)
    assert policy.sure(np.array([np.nan, 0.6])).tolist() == [False, True]


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(true_temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 5))
    p = softmax(logits)
    labels = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    found = confidence.fit_temperature(logits * true_temperature, labels)
    assert found == pytest.approx(true_temperature, rel=0.03)


def population(rng: np.random.Generator, n: int, skill: float):
    """Logits and labels of a model that is overconfident, as quantized ones are."""
    labels = rng.integers(0, 10, n)
    logits = rng.normal(0, 1, (n, 10))
    logits[np.arange(n), labels] += rng.exponential(skill, n)
    return logits * 2.5, labels


def broken(values, labels, *, max_error, size, splits, seed):
    """How often the promise is broken on the population that the samples come from, and the
    thresholds' mean coverage. Samples are drawn anew each time, with replacement, so that the
    population's own error at a threshold is the true one."""
    rng = np.random.default_rng(seed)
    correct = values.argmax(1) == labels
    count, coverage = 0, []
    for _ in range(splits):
        rows = rng.integers(0, len(labels), size)
        policy, _ = confidence.calibrate(
            values[rows], labels[rows], output="y", digest="d", max_error=max_error
        )
        sure = policy.sure(policy.scores({"y": values}))
        coverage.append(sure.mean())
        count += bool(sure.any() and (~correct[sure]).mean() > max_error)
    return count, float(np.mean(coverage))


# Of 200 splits at most 5 % may break the promise: 10, and with the binomial's own spread
# (P(X > 18) < 0.005 for X ~ Binomial(200, 0.05)) at most 18.
SPLITS, ALLOWED = 200, 18


@pytest.mark.parametrize("size", [400, 1500])
def test_the_promise_is_kept_on_simulated_data(size):
    values, labels = population(np.random.default_rng(1), 20_000, skill=3.0)
    count, coverage = broken(values, labels, max_error=0.05, size=size, splits=SPLITS, seed=2)
    assert count <= ALLOWED
    assert coverage > 0.1


def test_the_promise_is_kept_for_digits():
    onnxruntime = pytest.importorskip("onnxruntime")
    data = np.load(SPECS / "digits/evaluation.npz")
    session = onnxruntime.InferenceSession(SPECS / "digits/digits.onnx")
    values = session.run(None, {"image": data["image"]})[0]
    count, coverage = broken(values, data["label"], max_error=0.02, size=600, splits=SPLITS, seed=3)
    assert count <= ALLOWED
    assert coverage > 0.5


def test_luck_of_the_tuned_rows_does_not_cost_the_edge_its_answers():
    """Of 1,000 rows of a model that knows how sure it may be: 3 of these 30 once had none."""
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scores = 1 / (1 + np.exp(-rng.normal(3.8, 2, 1000)))
        scores = np.maximum(scores, 1 - scores)
        correct = rng.random(1000) < scores
        tune, test = confidence.split(1000)
        found.append(
            confidence.certify(
                (scores[tune], correct[tune]),
                (scores[test], correct[test]),
                max_error=0.04,
                confidence_level=0.95,
            )
        )
    assert all(one.threshold is not None for one in found)
    assert np.mean([one.coverage for one in found]) > 0.78


def test_the_threshold_that_looks_best_breaks_the_promise():
    # The reason for all of this: without the test, the same samples mislead.
    values, labels = population(np.random.default_rng(1), 20_000, skill=3.0)
    rng = np.random.default_rng(4)
    correct = values.argmax(1) == labels
    scores = score("max_probability", values, "logits")
    count = 0
    for _ in range(SPLITS):
        rows = rng.integers(0, len(labels), 400)
        levels = np.unique(scores[rows])
        good = [t for t in levels if (~correct[rows][scores[rows] >= t]).mean() <= 0.05]
        if good:
            count += (~correct[scores >= min(good)]).mean() > 0.05
    assert count > ALLOWED


def test_too_few_labels_are_said_and_nothing_is_promised():
    values, labels = population(np.random.default_rng(1), 60, skill=3.0)
    policy, found = confidence.calibrate(values, labels, output="y", digest="d", max_error=0.05)
    assert policy.threshold is None
    assert "too few" in found.warning
    assert "59" in found.warning


def test_a_promise_that_cannot_be_kept_is_not_given():
    values, labels = population(np.random.default_rng(1), 1000, skill=0.1)
    policy, found = confidence.calibrate(values, labels, output="y", digest="d", max_error=0.01)
    assert policy.threshold is None
    assert "never be sure" in found.warning


def test_a_fixed_threshold_reports_its_bound_and_promises_nothing():
    values, labels = population(np.random.default_rng(1), 1000, skill=3.0)
    policy, found = confidence.calibrate(values, labels, output="y", digest="d", threshold=0.85)
    assert (policy.threshold, policy.max_error) == (0.85, None)
    assert 0 < found.errors / found.kept < found.bound < 1
    assert policy.coverage == found.kept / found.samples
    with pytest.raises(ValueError, match="either"):
        confidence.calibrate(values, labels, output="y", digest="d")


def test_the_frontier_ends_at_all_edge_and_all_cloud():
    values, labels = population(np.random.default_rng(1), 2000, skill=2.0)
    correct = values.argmax(1) == labels
    scores = score("max_probability", values, "logits")
    points = confidence.frontier(
        scores,
        correct,
        np.ones(len(labels), bool),
        edge_latency=0.01,
        cloud_latency=0.15,
        cloud_cost=2.0,
    )
    assert points[0].coverage == 1.0
    assert points[0].total_error == pytest.approx((~correct).mean())
    assert points[0].latency == pytest.approx(0.01)
    assert (points[-1].coverage, points[-1].total_error, points[-1].cost) == (0.0, 0.0, 2.0)
    # A fallback pays edge and cloud.
    assert points[-1].latency == pytest.approx(0.16)
    assert all(a.coverage >= b.coverage for a, b in itertools.pairwise(points))


def test_the_split_is_the_same_everywhere():
    tune, test = confidence.split(1000)
    assert len(tune) == 250
    assert sorted([*tune, *test]) == list(range(1000))
    assert logits_of(np.zeros((3, 2, 2)), "logits").shape == (3, 4)


def test_max_score_of_ultralytics_one_output_leaves_its_boxes_out():
    one = np.zeros((3, 6, 9), np.float32)
    one[:, :4] = 500
    one[0, 5, 2], one[1, 4, 8] = 0.9, 0.2
    policy = Policy("max_score", "y", "probabilities", threshold=0.5, layout="ultralytics")
    assert policy.scores({"y": one}) == pytest.approx([0.9, 0.2, 0.0])
    assert policy.sure(policy.scores({"y": one})).tolist() == [True, False, False]
    assert Policy.from_json(policy.to_json()) == policy
    assert Policy.from_json('{"policy": "max_score", "output": "y"}').layout == "scores"
    with pytest.raises(ValueError, match="layout 'rows'"):
        Policy.from_json('{"policy": "max_score", "output": "y", "layout": "rows"}')
