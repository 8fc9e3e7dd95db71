"""Models with sizes in place of open dimensions, and what is run at these sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from workbench import Bench, make

from repo_builder.base.errors import ModelError
from repo_builder.introspect.static import with_static_shapes
from repo_builder.steps import _data, _runtimes

node = helper.make_node


def net() -> onnx.ModelProto:
    """Height and width are read from the input inside."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        node("Shape", ["c"], ["s"], start=2, end=4),
        node("Concat", ["minus", "s"], ["to"], axis=0),
        node("Reshape", ["c", "to"], ["y"]),
    ]
    w = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    weights = {"w": w, "minus": np.array([-1, 2])}
    return make(nodes, {"x": ["N", 3, "h", "w_"]}, {"y": ["N", 2, "h", "w_"]}, weights)


SIZES = {"h": 6, "w_": 10}


def test_a_model_at_one_size_answers_as_at_any(bench: Bench) -> None:
    source, facts = bench.run("import", params={"sizes": SIZES}, model=bench.model(net()))
    assert facts.signature.dynamic_axes == SIZES
    out, facts = bench.run("fix-shapes", params={"sizes": SIZES}, model=source)
    assert facts.inputs == {"x": ("N", 3, 6, 10)}
    assert facts.outputs["y"][1:] == (2, 6, 10)
    slim, told = bench.run("simplify", model=out)
    operators = [n.op_type for n in onnx.load(slim / "model.onnx").graph.node]
    assert "Shape" not in operators
    assert told.why_not == ""
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 10)).astype(np.float32)
    got, want = (_runtimes.load(f, "onnxruntime").run({"x": x})["y"] for f in (slim, source))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    with_static_shapes(onnx.load(slim / "model.onnx"), "cannot compile")  # raises no error


def test_random_rows_and_so_latency_have_these_sizes(bench: Bench) -> None:
    source, _ = bench.run("import", params={"sizes": SIZES}, model=bench.model(net()))
    out, _ = bench.run("reference", params={"sizes": SIZES}, model=source)
    assert _data.read(out / "inputs.npz")["x"].shape[1:] == (3, 6, 10)


def test_dimensions_without_a_name(bench: Bench) -> None:
    model = make([node("Relu", ["x"], ["y"])], {"x": ["", "", 4]}, {"y": ["", "", 4]})
    source, _ = bench.run("import", model=bench.model(model))
    _, facts = bench.run("fix-shapes", params={"sizes": {"x[1]": 5}}, model=source)
    assert facts.inputs["x"] == facts.outputs["y"] == ("", 5, 4)


def test_a_size_that_does_not_run_is_an_error(bench: Bench) -> None:
    nodes = [node("Reshape", ["x", "to"], ["r"]), node("MatMul", ["r", "w"], ["y"])]
    weights = {"to": np.array([-1, 6]), "w": np.ones((6, 2), np.float32)}
    model = make(nodes, {"x": ["n", "k"]}, {"y": ["m", 2]}, weights)
    source, _ = bench.run("import", model=bench.model(model))
    with pytest.raises(ModelError, match=r"cannot be reshaped|does not run|cannot load"):
        bench.run("fix-shapes", params={"sizes": {"n": 1, "k": 5}}, model=source)


def test_open_dimensions_left_say_what_to_write() -> None:
    with pytest.raises(ModelError, match=r"write `sizes: \{h: \.\.\., w_: \.\.\.\}` in the spec"):
        with_static_shapes(net(), "cannot compile")
    model = make([node("Relu", ["x"], ["y"])], {"x": ["", 3, ""]}, {"y": ["", 3, ""]})
    with pytest.raises(ModelError, match=r"write `sizes: \{x: \[null, 3, \.\.\.\]\}` in the spec"):
        with_static_shapes(model, "cannot compile")


def state_in_dimension_1() -> onnx.ModelProto:
    """[2, 1, 4]: the state of an LSTM, whose batch is dimension 1."""
    random = np.random.default_rng(0)
    weights = {
        "W": random.standard_normal((1, 16, 6)).astype(np.float32),
        "R": random.standard_normal((1, 16, 4)).astype(np.float32),
        "axis": np.array([0]),
    }
    nodes = [
        node("Split", ["state"], ["h", "c"], axis=0, num_outputs=2),
        node("LSTM", ["x", "W", "R", "", "", "h", "c"], ["", "hn", "cn"], hidden_size=4),
        node("Concat", ["hn", "cn"], ["stateN"], axis=0),
        node("Squeeze", ["hn", "axis"], ["y"]),
    ]
    inputs, outputs = {"x": [1, 1, 6], "state": [2, 1, 4]}, {"y": [1, 4], "stateN": [2, 1, 4]}
    return make(nodes, inputs, outputs, weights, opset=18)


def test_a_state_is_not_taken_for_rows(bench: Bench) -> None:
    pytest.importorskip("openvino")
    source, _ = bench.run("import", model=bench.model(state_in_dimension_1()))
    reference, _ = bench.run("reference", model=source)
    built, _ = bench.run("compile-openvino", params={"device": "NPU"}, model=source)
    runner = _runtimes.load(built, "openvino-rows")
    samples = _data.samples(reference / "inputs.npz", runner.inputs)
    plain = _runtimes.load(source, "onnxruntime")
    for row in range(samples.runs):
        got, want = runner.run(samples.feed(row)), plain.run(samples.feed(row))
        for name in want:
            assert got[name].shape == want[name].shape
            np.testing.assert_allclose(got[name], want[name], atol=1e-3)
