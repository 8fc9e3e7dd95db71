"""int8 for OpenVINO's CPU device: masks, reductions that drop dimensions, heads with two scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node as op
from test_quantize_kinds import (
    KEEP,
    MASKS,
    TOKENS,
    attention,
    by_a_constant,
    by_choosing,
    by_choosing_a_bias,
    normal,
)
from workbench import Bench, make

from repo_builder.base.errors import ModelError
from repo_builder.steps import _runtimes

INT8 = {"precision": "int8", "weight_bits": 7}


def error(bench: Bench, model: onnx.ModelProto, feeds: dict[str, Any], stacked: bool) -> Any:
    """The relative error of OpenVINO's int8 to fp32, and the step's facts."""
    rows = len(feeds["x"])
    data = bench.data("calibration", **feeds)
    source = bench.model(model)
    params = {**INT8, "samples": rows}
    out, facts = bench.run("compile-openvino", params=params, model=source, calibration=data)
    expected, answers = (
        _runtimes.load(folder, runtime)
        for folder, runtime in ((source, "onnxruntime"), (out, "openvino"))
    )
    runs = [{n: a[i] if stacked else a[i : i + 1] for n, a in feeds.items()} for i in range(rows)]
    want = np.stack([expected.run(run)["y"] for run in runs])
    got = np.stack([answers.run(run)["y"] for run in runs])
    return float(np.linalg.norm(got - want) / np.linalg.norm(want)), facts


HUGE = (-1e3, -1e4, -1e9, float(np.finfo(np.float32).min), -np.inf)
CHOSEN = (by_choosing, by_choosing_a_bias)


@pytest.mark.parametrize(
    ("mask", "huge"),
    [
        (mask, huge)
        for mask in [*MASKS, by_a_constant]
        for huge in HUGE
        # 0 times infinity is NaN in the source already
        if np.isfinite(huge) or mask in (*CHOSEN, by_a_constant)
    ],
)
def test_a_mask_does_not_swallow_the_scores(bench: Bench, mask: Any, huge: float) -> None:
    feeds: dict[str, Any] = {"x": TOKENS}
    inputs: dict[str, Any] = {}
    if mask in CHOSEN:
        feeds["keep"], inputs["keep"] = KEEP, ["n", 10]
    elif mask is not by_a_constant:
        feeds["mask"], inputs["mask"] = KEEP.astype(np.float32), ["n", 10]
    found, facts = error(bench, attention(lambda: mask(huge), inputs), feeds, stacked=False)
    assert found < 0.1
    assert facts.quantized == {"MatMul": 6}


def pooled(kind: str, how: str, behind: str) -> onnx.ModelProto:
    """Features of 17 tokens, pooled to one, something for each channel, two dense layers."""
    weights: dict[str, Any] = {
        "w1": normal(0, 16, 64),
        "b1": normal(1, 64),
        "s": np.exp(np.random.default_rng(2).uniform(-1.5, 0, 64)).astype(np.float32),
        "b": normal(3, 64),
        "mu": normal(4, 64) + np.float32(0.4),
        "var": np.full(64, 0.3, np.float32),
        "w2": normal(5, 64, 32, size=0.2),
        "w3": normal(6, 32, 10, size=0.2),
    }
    inputs = ["r"]
    axes: dict[str, Any] = {"axes": [1]}
    if kind == "ReduceSum":
        weights["axis"], inputs, axes = np.array([1]), ["r", "axis"], {}
    reduced = {
        "dropped": [op(kind, inputs, ["p"], keepdims=0, **axes)],
        "squeezed": [op(kind, inputs, ["k"], **axes), op("Squeeze", ["k", "one_axis"], ["p"])],
        "flattened": [op(kind, inputs, ["k"], **axes), op("Flatten", ["k"], ["p"])],
        "reshaped": [op(kind, inputs, ["k"], **axes), op("Reshape", ["k", "flat"], ["p"])],
    }[how]
    weights |= {
        "squeezed": {"one_axis": np.array([1])},
        "reshaped": {"flat": np.array([-1, 64])},
    }.get(how, {})
    scaled = {
        "norm": op("BatchNormalization", ["p", "s", "b", "mu", "var"], ["v"]),
        "scale": op("Mul", ["p", "s"], ["v"]),
        "shift": op("Add", ["p", "b"], ["v"]),
    }[behind]
    nodes = [
        op("MatMul", ["x", "w1"], ["a"]),
        op("Add", ["a", "b1"], ["a1"]),
        op("Relu", ["a1"], ["r"]),
        *reduced,
        scaled,
        op("Gemm", ["v", "w2"], ["g"]),
        op("Relu", ["g"], ["gr"]),
        op("Gemm", ["gr", "w3"], ["y"]),
    ]
    used = {name for node in nodes for name in node.input}
    stored = {name: array for name, array in weights.items() if name in used}
    return make(nodes, {"x": [1, 17, 16]}, {"y": [1, 10]}, stored)


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"])
@pytest.mark.parametrize("behind", ["norm", "scale", "shift"])
def test_a_reduction_may_drop_its_dimension(bench: Bench, kind: str, behind: str) -> None:
    feeds = {"x": normal(9, 48, 1, 17, 16, size=1)}
    found, _ = error(bench, pooled(kind, "dropped", behind), feeds, stacked=True)
    kept, _ = error(bench, pooled(kind, "flattened", behind), feeds, stacked=True)
    assert found < 1.2 * kept + 0.01


@pytest.mark.parametrize("how", ["squeezed", "flattened", "reshaped"])
def test_a_dimension_may_be_dropped_in_other_ways(bench: Bench, how: str) -> None:
    feeds = {"x": normal(9, 48, 1, 17, 16, size=1)}
    found, _ = error(bench, pooled("ReduceMean", how, "norm"), feeds, stacked=True)
    assert found < 0.2


def test_a_reduction_that_is_the_output_keeps_its_name_and_shape(bench: Bench) -> None:
    nodes = [
        op("MatMul", ["x", "w"], ["a"]),
        op("ReduceMax", ["a"], ["m"], axes=[1], keepdims=0),
        op("MatMul", ["m", "v"], ["b"]),
        op("ReduceMean", ["b"], ["y"], axes=[1], keepdims=0),
    ]
    weights = {"w": normal(0, 16, 64), "v": normal(1, 64, 8)}
    model = make(nodes, {"x": ["n", 17, 16]}, {"y": ["n"]}, weights)
    found, _ = error(bench, model, {"x": normal(9, 48, 17, 16, size=1)}, stacked=False)
    assert found < 0.1


def test_boxes_and_scores_in_one_output_keep_both(bench: Bench) -> None:
    nodes = [
        op("Conv", ["x", "w"], ["f"], pads=[1] * 4),
        op("Relu", ["f"], ["r"]),
        op("Conv", ["r", "wb"], ["boxes"]),
        op("Conv", ["r", "ws"], ["logits"]),
        op("Sigmoid", ["logits"], ["scores"]),
        op("Concat", ["boxes", "scores"], ["y"], axis=1),
    ]
    weights = {"w": normal(0, 8, 3, 3, 3), "wb": normal(1, 4, 8, 1, 1, size=90)}
    weights["ws"] = normal(2, 3, 8, 1, 1)
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 7, 8, 8]}, weights)
    x = normal(9, 32, 3, 8, 8, size=1)
    source, data = bench.model(model), bench.data("calibration", x=x)
    out, _ = bench.run("compile-openvino", params=INT8, model=source, calibration=data)
    want = _runtimes.load(source, "onnxruntime").run({"x": x})["y"][:, 4:]
    got = _runtimes.load(out, "openvino").run({"x": x})["y"][:, 4:]
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_number_added_to_all_channels_is_no_obstacle(bench: Bench, shape: Any) -> None:
    bias = np.full(shape, 0.5, np.float32)
    nodes = [op("MatMul", ["x", "w"], ["m"], "dense"), op("Add", ["m", "b"], ["y"], "shift")]
    stored = {"w": normal(1, 16, 6), "b": bias}
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 6]}, stored)
    off, facts = error(bench, model, {"x": normal(2, 32, 16)}, stacked=False)
    assert off < 0.03
    assert facts.quantized == {"MatMul": 1}


def test_float64_is_told_as_the_cause(bench: Bench) -> None:
    nodes = [op("MatMul", ["x", "w"], ["m"], "dense"), op("Tanh", ["m"], ["y"], "act")]
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, {"w": np.ones((16, 4))})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    source = bench.model(model)
    data = bench.data("calibration", x=np.ones((8, 16)))
    with pytest.raises(ModelError, match=r"computes in float64, .*model\.float\(\)"):
        bench.run("compile-openvino", params={**INT8, "samples": 8}, model=source, calibration=data)


def test_integers_that_are_cast_between_products_are_watched(bench: Bench) -> None:
    nodes = [
        op("Cast", ["k"], ["f"], "cast", to=onnx.TensorProto.FLOAT),
        op("MatMul", ["x", "w"], ["m"], "dense"),
        op("Mul", ["m", "f"], ["p"], "scaled"),
        op("MatMul", ["p", "v"], ["y"], "head"),
    ]
    stored = {"w": normal(1, 16, 8), "v": normal(2, 8, 4)}
    model = make(nodes, {"x": ["n", 16], "k": ["n", 1]}, {"y": ["n", 4]}, stored)
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    times = np.random.default_rng(3).integers(1, 4, (32, 1))
    off, facts = error(bench, model, {"x": normal(4, 32, 16), "k": times}, stacked=False)
    assert off < 0.05
    assert facts.quantized == {"MatMul": 2}


def test_what_stands_before_and_behind_an_lstm_is_in_int8(bench: Bench) -> None:
    nodes = [
        op("MatMul", ["x", "w"], ["m"], "dense"),
        op("Add", ["m", "b"], ["a"], "bias"),
        op("LSTM", ["a", "W", "R"], ["s", "h"], "lstm", hidden_size=8),
        op("Squeeze", ["s", "axis"], ["q"], "squeeze"),
        op("MatMul", ["q", "v"], ["z"], "head"),
        op("Add", ["z", "c"], ["y"], "head bias"),
    ]
    stored = {
        "w": normal(1, 16, 8),
        "b": normal(2, 8),
        "W": normal(3, 1, 32, 8),
        "R": normal(4, 1, 32, 8),
        "axis": np.array([1]),
        "v": normal(5, 8, 4),
        "c": normal(6, 4),
    }
    model = make(nodes, {"x": [5, 1, 16]}, {"y": [5, 1, 4]}, stored)
    off, facts = error(bench, model, {"x": normal(7, 16, 5, 1, 16)}, stacked=True)
    assert off < 0.1
    assert facts.quantized == {"MatMul": 2}


def test_a_device_of_one_shape_has_its_shapes_told(bench: Bench) -> None:
    nodes = [op("MatMul", ["x", "w"], ["y"], "dense")]
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, {"w": normal(1, 16, 4)})
    source = bench.model(model)
    _, one = bench.run("compile-openvino", params={"device": "NPU"}, model=source)
    assert (one.inputs, one.outputs) == ({"x": (1, 16)}, {"y": (1, 4)})
    _, any_batch = bench.run("compile-openvino", model=source)
    assert (any_batch.inputs, any_batch.outputs) == ({}, {})


def test_what_stands_beside_an_if_is_in_int8(bench: Bench) -> None:
    bodies = {
        name: onnx.helper.make_graph(
            [op(kind, ["m"], ["o"])],
            name,
            [],
            [onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, ["n", 8])],
        )
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Tanh"))
    }
    nodes = [
        op("MatMul", ["x", "w"], ["m"], "dense"),
        op("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        op("Greater", ["s", "zero"], ["c"], "positive"),
        op("If", ["c"], ["r"], "choose", **bodies),
        op("MatMul", ["r", "v"], ["z"], "head"),
        op("Add", ["z", "b"], ["y"], "bias"),
    ]
    stored = {
        "w": normal(1, 16, 8),
        "zero": np.float32(0),
        "v": normal(2, 8, 4),
        "b": normal(3, 4),
    }
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, stored)
    off, facts = error(bench, model, {"x": normal(4, 32, 16)}, stacked=False)
    assert off < 0.1
    assert sum(facts.quantized.values()) >= 1
