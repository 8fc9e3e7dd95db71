"""calibrate-confidence: what it finds, what it refuses, and that its digest follows its data."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from workbench import Bench, make

from repo_builder.base import digest
from repo_builder.base.errors import DataError, ModelError
from repo_builder.steps import _confidence as confidence

RANDOM = np.random.default_rng(7)
CLASSES = 5
LABEL = RANDOM.integers(0, CLASSES, 1200)
X = RANDOM.normal(0, 1, (1200, CLASSES)).astype(np.float32)
X[np.arange(1200), LABEL] += RANDOM.exponential(4, 1200)
PARAMS: dict[str, Any] = {
    "runtime": "onnxruntime",
    "policy": "max_probability",
    "output": "y",
    "activation": "logits",
    "label": "label",
    "threads": 1,
    "max_error": 0.05,
}


def scores(scale: float = 1.0, op: str = "Identity", output: str = "y") -> onnx.ModelProto:
    """`y` [N, 5]: the input times `scale`, through `op`."""
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["m"]),
        helper.make_node(op, ["m"], [output]),
    ]
    shape = ["N", CLASSES]
    return make(nodes, {"x": shape}, {output: shape}, {"scale": np.float32(scale)})


def found(bench: Bench, model: onnx.ModelProto, sibling: Any = None, **params: Any) -> Any:
    inputs = {
        "model": bench.model(model),
        "data": bench.data("evaluation", x=X, label=LABEL),
        **({"cloud": bench.model(sibling)} if sibling else {}),
    }
    _, facts = bench.run("calibrate-confidence", params={**PARAMS, **params}, **inputs)
    return facts


def test_the_policy_is_of_the_model_that_ran(bench: Bench) -> None:
    facts = found(bench, scores(), cloud_latency_ms=40.0, cloud_cost=2.0)
    assert (facts.tuned, facts.tested) == (300, 900)
    assert facts.policy.max_error == 0.05
    assert facts.bound <= 0.05
    assert facts.policy.coverage == facts.kept / facts.tested == facts.chosen.coverage
    assert facts.chosen.edge_error == facts.errors / facts.kept
    assert facts.chosen.total_error is None  # nobody says what the cloud answers
    assert facts.chosen.added_ms == pytest.approx(40 * (1 - facts.chosen.coverage))
    assert facts.chosen.cost == pytest.approx(2 * (1 - facts.chosen.coverage))
    assert facts.frontier[0].coverage == 1
    assert facts.frontier[-1].coverage == 0
    blob = {"model.onnx": digest.of_bytes(scores().SerializeToString())}
    assert facts.policy.digest == digest.of_json(blob)
    assert facts.warning == ""


def test_logits_that_are_too_large_are_cooled(bench: Bench) -> None:
    one, three = found(bench, scores()), found(bench, scores(3.0))
    assert three.policy.temperature == pytest.approx(3 * one.policy.temperature, rel=1e-3)
    assert three.policy.threshold == pytest.approx(one.policy.threshold, rel=1e-3)


def test_the_cloud_answers_for_the_unsure_rows(bench: Bench) -> None:
    facts = found(bench, scores(), scores(2.0))
    for point in facts.frontier:  # the same answers
        assert point.total_error == facts.frontier[0].edge_error
    _, tested = confidence.split(len(LABEL))
    wrong = X[tested].argmin(axis=1) != LABEL[tested]
    facts = found(bench, scores(), scores(-1.0))
    assert facts.frontier[0].total_error == facts.frontier[0].edge_error
    assert facts.frontier[-1].total_error == wrong.mean()
    sure = facts.policy.sure(facts.policy.scores({"y": X[tested]}))
    assert facts.chosen.total_error * len(tested) == pytest.approx(
        facts.errors + wrong[~sure].sum()
    )
    with pytest.raises(ModelError, match="cloud model 'big' has no output 'y'"):
        found(bench, scores(), scores(output="z"), cloud="big")
    other = make([helper.make_node("Relu", ["z"], ["y"])], {"z": ["N", 3]}, {"y": ["N", 3]})
    with pytest.raises(ModelError, match="cloud model 'big' cannot answer for the edge"):
        found(bench, scores(), other, cloud="big")


def test_a_fixed_threshold_and_a_detector(bench: Bench) -> None:
    fixed = found(bench, scores(), max_error=None, threshold=0.85)
    assert (fixed.policy.threshold, fixed.policy.max_error) == (0.85, None)
    assert 0 < fixed.errors / fixed.kept < fixed.bound
    detector = {"policy": "max_score", "label": "", "max_error": None, "threshold": 2.0}
    facts = found(bench, scores(), **detector)
    assert facts.policy.coverage == pytest.approx((X.max(axis=1) >= 2.0).mean())
    assert facts.kept == int((X.max(axis=1) >= 2.0).sum())
    assert (facts.errors, facts.bound, facts.chosen.edge_error) == (None, None, None)


def test_too_few_labels_are_a_warning_and_no_policy_that_is_ever_sure(bench: Bench) -> None:
    facts = found(bench, scores(), samples=60, max_error=0.02)
    assert facts.policy.threshold is None
    assert facts.chosen is None
    assert "45 samples are too few" in facts.warning
    assert "it takes 149 sure ones" in facts.warning
    with pytest.raises(DataError, match=r"evaluation.npz has 7 rows, too few"):
        found(bench, scores(), samples=7)


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        (scores(), {"output": "z"}, "reads the output 'z', which the model does not have"),
        (scores(op="Softmax"), {}, "'y' holds probabilities, not logits; write `activation: prob"),
        (scores(), {"activation": "probabilities"}, "'y' has values outside 0..1"),
        (scores(), {"label": "labels"}, "no array 'labels' for the metric's 'label'; did you mean"),
    ],
)
def test_what_does_not_fit_is_told(
    bench: Bench, model: onnx.ModelProto, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as refusal:
        found(bench, model, **params)
    assert message in str(refusal.value)


def test_labels_that_are_no_classes_are_told(bench: Bench) -> None:
    data = bench.data("evaluation", x=X, label=LABEL + 1)
    with pytest.raises(DataError, match=r"classes 1..5; the model has 5: 0..4"):
        bench.run("calibrate-confidence", params=PARAMS, model=bench.model(scores()), data=data)


def test_the_digest_follows_data_and_policy(bench: Bench) -> None:
    one, again = found(bench, scores()), found(bench, scores())
    assert one == again
    assert one.calibration != found(bench, scores(), max_error=0.04).calibration
    data = bench.data("evaluation", x=X, label=LABEL, unused=np.zeros(1))
    _, other = bench.run(
        "calibrate-confidence", params=PARAMS, model=bench.model(scores()), data=data
    )
    assert one.policy == other.policy
    assert one.calibration != other.calibration


DETECTOR = {"policy": "max_score", "label": "", "max_error": None, "threshold": 0.5}


def detector(channels: int, boxes: int) -> onnx.ModelProto:
    """`y` is `x`, [N, channels, boxes]."""
    shape = ["N", channels, boxes]
    return make([helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape})


def detections(shape: tuple[int, int], rest: float = 0.0) -> Any:
    rows = np.zeros((10, *shape), np.float32)
    rows[:, :4], rows[:, 4:] = 300, rest
    rows[:3, 4] = 0.9
    return rows


def test_a_detector_with_one_output_is_scored_without_its_boxes(bench: Bench) -> None:
    inputs = {
        "model": bench.model(detector(6, 20)),
        "data": bench.data("evaluation", x=detections((6, 20))),
    }
    params = {**PARAMS, **DETECTOR}
    one = {**params, "layout": "ultralytics"}
    _, facts = bench.run("calibrate-confidence", params=one, **inputs)
    assert (facts.kept, facts.tested, facts.policy.layout) == (3, 10, "ultralytics")
    with pytest.raises(DataError, match="boxes and scores in one; write `layout: ultralytics`"):
        bench.run("calibrate-confidence", params=params, **inputs)


@pytest.mark.parametrize(
    ("shape", "rest", "message"),
    [
        ((20, 6), 0.0, "has 20 channels for 6 boxes, as if it were transposed"),
        ((4, 20), 0.0, "has 4 channels, of which no class is left"),
        ((6, 20), -2.0, "holds more than probabilities from channel 4 on"),
    ],
)
def test_another_layout_is_told(
    bench: Bench, shape: tuple[int, int], rest: float, message: str
) -> None:
    rows = np.full((10, *shape), 1.0, np.float32)
    if shape[0] > 4:
        rows = detections(shape, rest)
    with pytest.raises(DataError, match=message):
        bench.run(
            "calibrate-confidence",
            params={**PARAMS, **DETECTOR, "layout": "ultralytics"},
            model=bench.model(detector(*shape)),
            data=bench.data("evaluation", x=rows),
        )
