"""The simplifier's limits: no folding that makes the file grow, memory, trees, and what is kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from workbench import Bench, cnn, make

from repo_builder.steps import _runtimes, _slim

node = helper.make_node


def _answer(folder, x):
    return _runtimes.load(folder, "onnxruntime").run({"x": x})["y"]


def test_constants_that_would_make_the_file_grow_are_not_folded(bench: Bench) -> None:
    """16 MB of a table that 12 bytes make: neither by the simplifier nor by ONNX Runtime."""
    nodes = [node("ConstantOfShape", ["s"], ["t"]), node("Add", ["t", "w"], ["u"])]
    nodes += [node("Gather", ["u", "i"], ["row"], axis=0), node("Add", ["x", "row"], ["y"])]
    weights = {"s": [4096, 1024], "w": np.ones(1024, np.float32), "i": [5]}
    model = make(nodes, {"x": ["N", 1024]}, {"y": ["N", 1024]}, weights)
    source, _ = bench.run("import", model=bench.model(model))
    slim, _ = bench.run("simplify", model=source)
    built, _ = bench.run("compile-onnxruntime", model=slim)
    for folder in (slim, built):
        assert (folder / "model.onnx").stat().st_size < 100_000
        x = np.zeros((2, 1024), np.float32)
        np.testing.assert_array_equal(_answer(folder, x), np.ones((2, 1024)))


def test_folding_that_makes_it_smaller_is_kept(bench: Bench) -> None:
    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    weights = {"w": np.ones((8, 4), np.float32)}
    model = make(nodes, {"x": ["N", 4]}, {"y": ["N", 8]}, weights)
    _, facts = bench.run("simplify", model=bench.model(model))
    assert (facts.nodes_before, facts.nodes_after, facts.why_not) == (2, 1, "")


def _perceptron(width: int = 1500) -> onnx.ModelProto:
    """9 MB and more of weights, and a chain of operators that do nothing."""
    random = np.random.default_rng(0)
    weights = {
        "w": (random.standard_normal((width, width)) / 40).astype(np.float32),
        "b": random.standard_normal(width).astype(np.float32),
        "one": np.float32(1),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Identity", ["a"], ["i"]),
        node("Add", ["i", "b"], ["c"]),
        node("Add", ["one", "one"], ["two"]),
        node("Mul", ["c", "two"], ["y"]),
    ]
    return make(nodes, {"x": ["N", width]}, {"y": ["N", width]}, weights)


def test_a_large_model_is_simplified_apart_without_its_weights(bench: Bench) -> None:
    source = bench.model(_perceptron())
    assert (source / "model.onnx").stat().st_size > _slim.SMALL
    out, facts = bench.run("simplify", model=source)
    assert facts.why_not == ""
    assert facts.nodes_after < facts.nodes_before == 5
    x = np.random.default_rng(2).standard_normal((2, 1500)).astype(np.float32)
    np.testing.assert_allclose(_answer(out, x), _answer(source, x), rtol=1e-4, atol=1e-4)


def test_too_much_memory_is_given_up_and_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_slim, "MOST_BYTES", 250_000_000)  # less than its imports take
    monkeypatch.setattr(_slim, "MOST_FACTOR", 0)
    source = bench.model(_perceptron())
    out, facts = bench.run("simplify", model=source)
    assert "the simplifier takes more than 0.2 GB of memory" in facts.why_not
    assert (out / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()


def test_too_much_time_is_given_up_and_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_slim, "MOST_SECONDS", 0.01)
    _, facts = bench.run("simplify", model=bench.model(_perceptron()))
    assert facts.why_not.startswith("the simplifier was not done after")


def test_trees_are_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that they hold is in attributes, of which the simplifier makes many lists."""
    monkeypatch.setattr(_slim, "MOST_IN_ATTRIBUTES", 10)
    tree = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    nodes = [node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **tree)]
    model = make(nodes, {"x": ["N", 2]}, {"y": ["N", 1]})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    _, facts = bench.run("simplify", model=bench.model(model))
    assert "numbers, as trees do" in facts.why_not


def test_a_simplifier_that_changes_answers_is_not_built_upon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_):
        model = cnn()
        model.graph.initializer[0].CopyFrom(cnn(seed=1).graph.initializer[0])
        return model

    monkeypatch.setattr(_slim, "simplified", wrong)
    source = bench.model(cnn())
    out, facts = bench.run("simplify", model=source)
    assert "changes the model: output 'y' differs" in facts.why_not
    assert (out / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()
