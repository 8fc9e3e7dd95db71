"""fp16 of models with bodies (If, Loop, Scan), and of those in which nothing can be fp16."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_node, make_tensor_value_info
from workbench import Bench, make

from repo_builder.base.errors import ModelError
from repo_builder.steps import _bodies, _fp16, _rounded, _runtimes
from repo_builder.trt import check

FP16 = {"precision": "fp16"}
X = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


def weights(seed: int, size: float = 0.3) -> Any:
    return (np.random.default_rng(seed).standard_normal((8, 8)) * size).astype(np.float32)


def body(seed: int, *nodes: onnx.NodeProto, size: float = 0.3) -> onnx.GraphProto:
    """The tensor `a` around it times weights; then `nodes`, from `m` to `o`."""
    out = make_tensor_value_info("o", TensorProto.FLOAT, ["n", 8])
    stored = numpy_helper.from_array(weights(seed, size), "w")
    product = make_node("MatMul", ["a", "w"], ["m"], "product")
    return make_graph([product, *nodes], f"body{seed}", [], [out], [stored])


def choosing(then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.ModelProto:
    """A product, and one of two bodies behind it by the sign of the input's sum."""
    nodes = [
        make_node("MatMul", ["x", "W"], ["a"], "first"),
        make_node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        make_node("Greater", ["s", "zero"], ["c"], "positive"),
        make_node("If", ["c"], ["y"], "choose", then_branch=then, else_branch=other),
    ]
    stored = {"W": weights(0), "zero": np.float32(0)}
    model = make(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, stored)
    onnx.checker.check_model(model, full_check=True)
    return model


TWO = choosing(
    body(1, make_node("Relu", ["m"], ["o"], "relu")), body(2, make_node("Tanh", ["m"], ["o"]))
)


def test_bodies_that_use_one_name_for_two_tensors_are_converted(bench: Bench) -> None:
    source = bench.model(TWO)
    out, _ = bench.run("compile-onnxruntime", params=FP16, model=source)
    written = onnx.load(out / "model.onnx")
    stored = [t for _, inner in _bodies.within(written.graph) for t in inner.initializer]
    assert {t.data_type for t in stored} == {TensorProto.FLOAT16}
    for rows in (X, -X):
        want, got = (
            _runtimes.load(folder, "onnxruntime").run({"x": rows})["y"] for folder in (source, out)
        )
        assert np.linalg.norm(got - want) < 0.005 * np.linalg.norm(want)


def test_own_names_change_no_answer() -> None:
    model = onnx.ModelProto.FromString(TWO.SerializeToString())
    _bodies.own_names(model)
    onnx.checker.check_model(model, full_check=True)
    names = [t.name for _, inner in _bodies.within(model.graph) for t in inner.initializer]
    assert len(set(names)) == 2
    for rows in (X, -X):
        want, got = (_fp16.runner(one).run({"x": rows})["y"] for one in (TWO, model))
        np.testing.assert_array_equal(got, want)


def test_what_overflows_in_a_body_is_infinite_in_emulated_fp16() -> None:
    back = make_node("Mul", ["m", "k"], ["o"], "back")
    wide = body(1, make_node("Constant", [], ["k"], value_float=1e-6), back, size=1e6)
    model = choosing(wide, body(2, make_node("Tanh", ["m"], ["o"])))
    rows = X if X.sum() > 0 else -X
    assert np.isfinite(_fp16.runner(model).run({"x": rows})["y"]).all()
    emulated = _fp16.runner(_rounded.rounded(model))
    assert np.isinf(emulated.run({"x": rows})["y"]).any()
    assert np.isfinite(emulated.run({"x": -rows})["y"]).all()  # the other body


def test_every_value_in_a_body_is_one_of_fp16() -> None:
    rounded = _rounded.rounded(TWO)
    answer = _fp16.runner(rounded).run({"x": X})["y"]
    np.testing.assert_array_equal(answer, answer.astype(np.float16).astype(np.float32))
    assert not np.array_equal(answer, _fp16.runner(TWO).run({"x": X})["y"])


def test_a_body_that_cannot_be_all_fp16_is_named(bench: Bench) -> None:
    limited = body(1, make_node("CumSum", ["m", "axis"], ["o"], "running"))
    limited.initializer.append(numpy_helper.from_array(np.int64(1), "axis"))
    model = choosing(limited, body(2, make_node("Tanh", ["m"], ["o"])))
    with pytest.raises(ModelError, match=r"CumSum in the body of If node 'choose' has no fp16"):
        bench.run("compile-onnxruntime", params=FP16, model=bench.model(model))


def test_where_every_node_overflows_all_of_the_model_stays_in_fp32(bench: Bench) -> None:
    nodes = [
        make_node("MatMul", ["x", "W"], ["a"], "product"),
        make_node("Div", ["a", "k"], ["y"], "back"),
    ]
    stored = {"W": weights(0, 1e6), "k": np.float32(0.5)}
    source = bench.model(make(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, stored))
    reference, _ = bench.run("reference", model=source)
    ranges, _ = bench.run("fp16-ranges", model=source, reference=reference)
    out, facts = bench.run("compile-onnxruntime", params=FP16, model=source, ranges=ranges)
    assert facts.kept == ("product", "back")
    assert check.problems(onnx.load(out / "model.onnx"), "fp16") == []
    want, got = (_runtimes.load(one, "onnxruntime").run({"x": X})["y"] for one in (source, out))
    np.testing.assert_array_equal(got, want)


def test_a_model_without_fp32_has_no_ranges_and_is_right(bench: Bench) -> None:
    model = make([make_node("Add", ["x", "x"], ["y"])], {"x": ["n", 8]}, {"y": ["n", 8]})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.INT32
    source = bench.model(model)
    reference, _ = bench.run("reference", model=source)
    _, facts = bench.run("fp16-ranges", model=source, reference=reference)
    assert (facts.count, facts.headroom) == (0, 0.0)


def test_a_model_in_fp16_stays_as_it_is(bench: Bench) -> None:
    weight = weights(0).astype(np.float16)
    nodes = [make_node("MatMul", ["x", "W"], ["a"]), make_node("Relu", ["a"], ["y"])]
    model = make(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, {"W": weight})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    source = bench.model(model)
    out, facts = bench.run("compile-onnxruntime", params=FP16, model=source)
    assert facts.operators == {"MatMul": 1, "Relu": 1}
    rows = X.astype(np.float16)
    want, got = (_runtimes.load(one, "onnxruntime").run({"x": rows})["y"] for one in (source, out))
    np.testing.assert_array_equal(got, want)
