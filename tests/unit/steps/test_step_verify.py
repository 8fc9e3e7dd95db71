"""reference, verify, profile, and what they say of models that fail."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from workbench import Bench, cnn, make

from repo_builder.base.errors import DataError, ModelError, StepError
from repo_builder.steps import _data, _failures, _turns

X = np.random.default_rng(1).standard_normal((20, 3, 16, 16)).astype(np.float32)
LABEL = np.random.default_rng(2).integers(0, 5, 20)
ACCURACY = {"metric": "accuracy", "labels": {"label": "label"}, "outputs": {"scores": "y"}}


def verify(bench: Bench, source: Any, built: Any, runtime: str = "onnxruntime") -> Any:
    evaluation = bench.data("evaluation", x=X, label=LABEL)
    reference, _ = bench.run(
        "reference", params=ACCURACY, model=bench.model(source), evaluation=evaluation
    )
    params = {"runtime": runtime, "threads": 1, **ACCURACY}
    _, facts = bench.run(
        "verify",
        params=params,
        model=built,
        source=bench.model(source),
        reference=reference,
        evaluation=evaluation,
    )
    return facts


def test_reference_writes_outputs_and_first_inputs(bench: Bench) -> None:
    evaluation = bench.data("evaluation", x=X, label=LABEL)
    source = bench.model(cnn())
    out, facts = bench.run("reference", params=ACCURACY, model=source, evaluation=evaluation)
    outputs, inputs = _data.read(out / "outputs.npz"), _data.read(out / "inputs.npz")
    assert facts.rows == 20
    assert facts.metric == np.mean(outputs["y"].argmax(axis=1) == LABEL)
    np.testing.assert_array_equal(inputs["x"], X[:8])
    again, _ = bench.run("reference", params=ACCURACY, model=source, evaluation=evaluation)
    assert (out / "outputs.npz").read_bytes() == (again / "outputs.npz").read_bytes()


def test_samples_take_rows_from_the_start(bench: Bench) -> None:
    evaluation = bench.data("evaluation", x=X, label=LABEL)
    params = {**ACCURACY, "samples": 7}
    _, facts = bench.run(
        "reference", params=params, model=bench.model(cnn()), evaluation=evaluation
    )
    assert facts.rows == 7


def test_equal_models(bench: Bench) -> None:
    facts = verify(bench, cnn(), bench.model(cnn()))
    assert (facts.level, facts.rows, facts.batched) == ("executed", 20, True)
    (difference,) = facts.outputs
    assert difference.name == "y"
    assert difference.relative < 1e-6
    assert difference.cosine == pytest.approx(1)
    assert facts.score.drop == 0


def test_a_worse_model_has_a_positive_drop(bench: Bench) -> None:
    """The source is its own truth; the built model's classes are turned by one."""
    source, turned = cnn(), cnn()
    for model in (source, turned):
        scale = next(t for t in model.graph.initializer if t.name == "scale")
        scale.CopyFrom(numpy_helper.from_array(np.ones(5, np.float32), "scale"))
    weight = next(t for t in turned.graph.initializer if t.name == "w3")
    weight.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 1, 1), "w3"))
    reference, _ = bench.run("reference", model=bench.model(source))
    x = _data.read(reference / "inputs.npz")["x"]
    label = _data.read(reference / "outputs.npz")["y"].argmax(axis=1)
    evaluation = bench.data("evaluation", x=x, label=label)
    reference, facts = bench.run(
        "reference", params=ACCURACY, model=bench.model(source), evaluation=evaluation
    )
    assert facts.metric == 1
    params = {"runtime": "onnxruntime", **ACCURACY}
    _, facts = bench.run(
        "verify",
        params=params,
        model=bench.model(turned),
        source=bench.model(source),
        reference=reference,
        evaluation=evaluation,
    )
    assert facts.score.source == 1
    assert facts.score.drop == 1 - facts.score.built > 0.5
    assert facts.outputs[0].relative > 0.5
    own, _ = bench.run(
        "reference", params=ACCURACY, model=bench.model(turned), evaluation=evaluation
    )
    _, facts = bench.run(
        "verify",
        params=params,
        model=bench.model(turned),
        source=bench.model(turned),
        reference=own,
        parent=reference,
        evaluation=evaluation,
    )
    assert facts.score.source == 1  # of the parent, while answers are compared with its own
    assert facts.score.drop > 0.5
    assert facts.outputs[0].relative < 1e-6


def test_without_data_seeded_random_rows_are_compared(bench: Bench) -> None:
    source = bench.model(cnn())
    reference, facts = bench.run("reference", model=source)
    again, _ = bench.run("reference", model=bench.model(cnn()))
    assert facts.metric is None
    assert (reference / "inputs.npz").read_bytes() == (again / "inputs.npz").read_bytes()
    built, _ = bench.run("compile-openvino", model=bench.model(cnn()))
    params = {"runtime": "openvino"}
    _, facts = bench.run("verify", params=params, model=built, source=source, reference=reference)
    assert (facts.rows, facts.origin) == (16, "generated")
    assert (facts.score, facts.batched, facts.broken) == (None, True, ())
    assert 0 <= facts.outputs[0].relative < 0.02


def test_where_no_random_input_runs_nothing_is_compared(bench: Bench) -> None:
    """37 is no size that is tried: empty inputs would run, and agree with anything."""
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    model = make([node], {"x": ["N"]}, {"y": ["M", 37]}, {"s": np.array([-1, 37])})
    with pytest.raises(ModelError, match="no random input runs .*; give evaluation data"):
        bench.run("reference", model=bench.model(model))


def test_varying_dimensions_and_scalars_without_data(bench: Bench) -> None:
    node = helper.make_node("Mul", ["x", "k"], ["y"])
    model = make([node], {"x": ["N", "L"], "k": []}, {"y": ["N", "L"]})
    reference, facts = bench.run("reference", model=bench.model(model))
    assert facts.rows == 16
    params = {"runtime": "onnxruntime"}
    built = bench.model(model)
    _, facts = bench.run("verify", params=params, model=built, source=built, reference=reference)
    assert not facts.batched
    _, facts = bench.run("profile", params=params, model=bench.model(model), reference=reference)
    assert [timing.batch for timing in facts.batches] == [1]


def test_a_batch_dimension_that_lies_is_found_in_the_built_model(bench: Bench) -> None:
    """Each row is divided by the largest value of the whole batch."""
    nodes = [
        helper.make_node("Abs", ["c"], ["r"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMax", ["r"], ["m"], keepdims=0),
        helper.make_node("Div", ["r", "m"], ["y"]),
    ]
    nodes[:2] = nodes[1::-1]
    weights = {"w": np.ones((1, 3, 12, 16), np.float32)}
    model = make(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 1, 5, 1]}, weights)
    facts = verify(bench, model, bench.model(model))
    assert not facts.batched
    assert "changes with the other rows" in facts.why_not_batched


def test_a_batch_fixed_inside_is_found_in_the_built_model(bench: Bench) -> None:
    weights = {"s": np.array([1, 768]), "w": np.ones((768, 5), np.float32)}
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    model = make(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 5]}, weights)
    facts = verify(bench, model, bench.model(model))
    assert not facts.batched
    assert facts.why_not_batched == "'y' has no varying first dimension"


def test_nan_in_the_built_model_is_never_a_small_difference(bench: Bench) -> None:
    broken = cnn()
    scale = next(t for t in broken.graph.initializer if t.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.full(5, np.nan, np.float32), "scale"))
    facts = verify(bench, cnn(), bench.model(broken))
    assert facts.broken == (
        "output 'y' is NaN or infinite where the other side is not, in 100 values",
    )
    assert facts.first == "node 'decode' (Mul)"


def test_evaluation_data_that_does_not_fit(bench: Bench) -> None:
    source = bench.model(cnn())
    for arrays, expected in (
        ({"x": X, "label": LABEL[:-1]}, "'label' has 19 labels for 20 rows"),
        (
            {"x": X, "lable": LABEL},
            "no array 'label' for the metric's 'label'; did you mean 'lable'",
        ),
        ({"x": X, "label": LABEL + 3}, "the model has 5"),
        ({"x": X[:, :1], "label": LABEL}, "has shape"),
    ):
        evaluation = bench.data("evaluation", **arrays)
        with pytest.raises(DataError, match=expected):
            bench.run("reference", params=ACCURACY, model=source, evaluation=evaluation)
    params = {**ACCURACY, "outputs": {"scores": "logits"}}
    with pytest.raises(DataError, match="the model's output 'logits', which it does not have"):
        bench.run(
            "reference",
            params=params,
            model=source,
            evaluation=bench.data("evaluation", x=X, label=LABEL),
        )


def test_a_model_that_fails_on_a_row(bench: Bench) -> None:
    node = helper.make_node("Gather", ["t", "i"], ["y"])
    model = make([node], {}, {"y": ["N", 2]}, {"t": np.ones((3, 2), np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, ["N"]))
    evaluation = bench.data("evaluation", i=np.array([0, 2, 7]))
    with pytest.raises(ModelError, match="the model fails on row 2: .*out of data bounds"):
        bench.run("reference", model=bench.model(model), evaluation=evaluation)


def test_lack_of_memory_is_told_as_such(bench: Bench) -> None:
    """A model that asks for 4 TB."""
    nodes = [helper.make_node("Expand", ["x", "s"], ["y"])]
    model = make(nodes, {"x": ["N", 1]}, {"y": ["N", "L"]}, {"s": np.array([1, 10**12])})
    evaluation = bench.data("evaluation", x=np.ones((1, 1), np.float32))
    with pytest.raises(StepError, match="the model fails on row 0: not enough memory; use fewer"):
        bench.run("reference", model=bench.model(model), evaluation=evaluation)
    assert _failures.is_out_of_memory(MemoryError())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_score_is_the_metric_in_the_runtime(bench: Bench, runtime: str) -> None:
    built, _ = bench.run(f"compile-{runtime}", model=bench.model(cnn()))
    evaluation = bench.data("evaluation", x=X, label=LABEL)
    _, reference = bench.run(
        "reference", params=ACCURACY, model=bench.model(cnn()), evaluation=evaluation
    )
    params = {"runtime": runtime, "threads": 1, **ACCURACY}
    out, facts = bench.run("score", params=params, model=built, evaluation=evaluation)
    assert facts.score == pytest.approx(reference.metric, abs=0.1)
    assert not list(out.iterdir())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_profile(bench: Bench, runtime: str) -> None:
    source = bench.model(cnn())
    reference, _ = bench.run("reference", model=source)
    built, _ = bench.run(f"compile-{runtime}", model=source)
    params = {"runtime": runtime, "threads": 1, "batch_sizes": (1, 4), "seconds": 0.05}
    _, facts = bench.run("profile", params=params, model=built, reference=reference)
    assert [timing.batch for timing in facts.batches] == [1, 4]
    for timing in facts.batches:
        assert timing.runs >= 10
        assert 0 < timing.p50_ms <= timing.p95_ms
        assert timing.rows_per_second > 0
        assert timing.spread >= 0
    assert facts.memory_mb > 0
    assert facts.conditions.cores >= 1
    assert facts.fp32 is None
    beside = {"fp32": built, "parent": built}
    _, facts = bench.run("profile", params=params, model=built, reference=reference, **beside)
    for other in (facts.fp32, facts.parent):
        assert other.p50_ms > 0
        assert 0 < other.faster_low <= other.faster <= other.faster_high


def test_the_model_and_its_fp32_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """First to last, then last to first, so that what changes slowly is the same for both."""
    turns: list[object] = []

    def block(runner: object, _feed: object, runs: int) -> list[float]:
        turns.append(runner)
        return [_turns.BLOCK_S / 2] * runs

    runners: list[Any] = ["ours", "fp32"]
    monkeypatch.setattr(_turns, "block", block)
    blocks = _turns.take(runners, {}, seconds=0.0)
    warm, measured = turns[:4], turns[4:]
    assert warm == ["ours", "ours", "fp32", "fp32"]
    assert measured[:4] == ["ours", "fp32", "fp32", "ours"]
    assert [sum(map(len, one)) for one in blocks] == [_turns.MIN_RUNS] * 2


def test_a_slow_model_ends_its_turns_with_fewer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def block(_runner: object, _feed: object, count: int) -> list[float]:
        runs.append(count)
        return [100 * _turns.BLOCK_S] * count

    runners: list[Any] = ["slow"]
    monkeypatch.setattr(_turns, "block", block)
    monkeypatch.setattr(_turns, "LONGEST", 0.0)
    assert _turns.take(runners, {}, seconds=0.5) == [[[1.0]]]
    assert runs == [1, 1]  # the warm-up, and what is measured


def test_ratios_are_of_neighbours_in_time() -> None:
    """The machine becomes ten times slower; of two medians the ratio would be anything."""
    ours = [[1.0, 1.0], [1.0, 1.0], [10.0, 10.0]]
    fp32 = [[2.0, 2.0], [20.0, 20.0], [20.0, 20.0]]
    found = _turns.beside(ours, fp32)
    assert found.faster == 2.0
    assert found.p50_ms == 20_000.0


def test_every_step_is_listed_and_has_the_shape_of_one() -> None:
    from repo_builder import steps

    for name, declaration in steps.declarations().items():
        step = steps.load(name)
        assert callable(step.run)
        for part in (step.Params, step.Inputs, step.Facts):
            assert dataclasses.is_dataclass(part) or issubclass(part, dict)
        assert declaration.exclusive == (name in ("profile", "run-pipeline", "prune"))
