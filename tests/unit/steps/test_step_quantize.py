from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from workbench import Bench, cnn, make, relu

from repo_builder.base.errors import DataError, ModelError, StepError
from repo_builder.steps import _runtimes

X = np.random.default_rng(1).standard_normal((12, 3, 16, 16)).astype(np.float32)
ACCURACY = {"metric": "accuracy", "labels": {"label": "label"}, "outputs": {"scores": "logits"}}


def quantize(bench: Bench, model: onnx.ModelProto, data: Any = X, **params: Any) -> Any:
    params = {"scheme": "u8s8", "samples": len(data), **params}
    calibration = bench.data("calibration", x=data)
    return bench.run("quantize", params=params, model=bench.model(model), calibration=calibration)


def zero_points(model: onnx.ModelProto) -> dict[str, Any]:
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return {node.input[2]: stored[node.input[2]] for node in nodes}


def gap(out: Path, model: onnx.ModelProto, bench: Bench) -> float:
    expected = _runtimes.load(bench.model(model), "onnxruntime").run({"x": X})["y"]
    answer = _runtimes.load(out, "onnxruntime").run({"x": X})["y"]
    return float(np.linalg.norm(answer - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("scheme", ["u8s8", "s8s8"])
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_answers_stay_close(bench: Bench, scheme: str, method: str) -> None:
    out, facts = quantize(bench, cnn(), scheme=scheme, method=method)
    onnx.checker.check_model(out / "model.onnx", full_check=True)
    assert facts.quantized.items() >= {"Conv": 2, "Gemm": 1}.items()
    assert gap(out, cnn(), bench) < 0.05


def test_u8s8_has_unsigned_activations_and_a_scale_for_each_channel(bench: Bench) -> None:
    out, _ = quantize(bench, cnn())
    model = onnx.load(out / "model.onnx")
    points = zero_points(model)
    assert points["x_zero_point"].dtype == np.uint8
    assert 0 < points["x_zero_point"] < 255
    weights = {t.name: t for t in model.graph.initializer}
    stored = numpy_helper.to_array(weights["w2_quantized"])
    assert (stored.dtype, stored.shape) == (np.int8, (8, 8, 3, 3))
    assert numpy_helper.to_array(weights["w2_scale"]).shape == (8,)
    out, _ = quantize(bench, cnn(), per_channel=False)
    weights = {t.name: t for t in onnx.load(out / "model.onnx").graph.initializer}
    assert numpy_helper.to_array(weights["w2_scale"]).shape == ()


def test_s8s8_is_the_form_that_tensorrt_takes(bench: Bench) -> None:
    out, _ = quantize(bench, cnn(), scheme="s8s8")
    model = onnx.load(out / "model.onnx")
    assert all(p.dtype == np.int8 and not p.any() for p in zero_points(model).values())
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    by_output = {name: node for node in model.graph.node for name in node.output}
    pairs = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    # A pair of its own for every reader, and one on every weight; biases stay in fp32.
    assert all(readers[node.output[0]] == 1 for node in pairs)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = by_output[node.input[1]]
            assert weight.op_type == "DequantizeLinear"
            assert by_output[weight.input[0]].op_type == "QuantizeLinear"
            assert not set(node.input[2:]) & set(by_output)


def test_what_follows_the_last_heavy_node_stays_in_floating_point(bench: Bench) -> None:
    _, facts = quantize(bench, cnn())
    assert facts.floating == {"Mul": 1}
    assert "y" not in facts.ranges


@pytest.mark.parametrize("mean", ["ReduceMean", "GlobalAveragePool"])
def test_a_mean_over_space_is_quantized_whatever_it_is_called(bench: Bench, mean: str) -> None:
    out, facts = quantize(bench, cnn(mean=mean))
    assert facts.quantized["GlobalAveragePool"] == 1
    assert facts.floating == {"Mul": 1}
    assert gap(out, cnn(mean=mean), bench) < 0.05


@pytest.mark.parametrize(("keepdims", "opset"), [(0, 13), (1, 13), (0, 18), (1, 18)])
def test_mean_keeps_its_shape(bench: Bench, keepdims: int, opset: int) -> None:
    weights: dict[str, Any] = {"w": np.ones((4, 3, 1, 1), np.float32)}
    shape: list[int | str] = ["N", 4, 1, 1] if keepdims else ["N", 4]
    axes: dict[str, Any] = {"axes": [-1, -2]} if opset < 18 else {}
    if not axes:
        weights["a"] = np.array([2, 3])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node(
            "ReduceMean", ["c", *(["a"] * (not axes))], ["m"], keepdims=keepdims, **axes
        ),
        helper.make_node("Conv" if keepdims else "MatMul", ["m", "v"], ["y"], "last"),
    ]
    weights["v"] = np.eye(4, dtype=np.float32).reshape((4, 4, 1, 1) if keepdims else (4, 4))
    model = make(nodes, {"x": ["N", 3, 16, 16]}, {"y": shape}, weights, opset=opset)
    out, facts = quantize(bench, model)
    assert facts.quantized["GlobalAveragePool"] == 1
    assert gap(out, model, bench) < 0.05


def test_a_sum_of_two_is_quantized_as_add(bench: Bench) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Sum", ["c", "x"], ["s"], "sum"),
        helper.make_node("Conv", ["s", "w"], ["y"], "last"),
    ]
    weights = {"w": np.ones((3, 3, 1, 1), np.float32)}
    model = make(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 3, 16, 16]}, weights)
    out, facts = quantize(bench, model)
    assert facts.quantized == {"Add": 1, "Conv": 2}
    assert gap(out, model, bench) < 0.05


def test_exclude_keeps_nodes_in_floating_point(bench: Bench) -> None:
    out, facts = quantize(bench, cnn(), exclude=("conv1", "den*"))
    assert (facts.quantized["Conv"], facts.floating["Conv"]) == (1, 1)
    assert facts.floating["Gemm"] == 1
    with pytest.raises(ModelError, match=r"'convv1' matches no node; heavy nodes are conv1, conv2"):
        quantize(bench, cnn(), exclude=("convv1",))
    assert out.exists()


def test_older_opsets_are_raised(bench: Bench) -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = make([node], {"x": ["N", 3, 16, 16]}, {"y": ["N", 4, 14, 14]}, weights, opset=9, ir=4)
    out, _ = quantize(bench, model)
    written = onnx.load(out / "model.onnx")
    assert written.opset_import[0].version == 13
    onnx.checker.check_model(written, full_check=True)
    assert gap(out, model, bench) < 0.02


def test_calibration_data_that_does_not_fit(bench: Bench) -> None:
    bad = X.copy()
    bad[3, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="'x' has NaN or infinity in 1 rows, first row 3"):
        quantize(bench, cnn(), bad)
    with pytest.raises(DataError, match="has 12 rows, 50 samples are asked"):
        quantize(bench, cnn(), samples=50)
    with pytest.raises(DataError, match="'x' is empty"):
        quantize(bench, cnn(), X[:0])
    with pytest.raises(DataError, match="no array 'x'"):
        bench.run(
            "quantize",
            params={"scheme": "u8s8", "samples": 1},
            model=bench.model(cnn()),
            calibration=bench.data("calibration", y=X),
        )


def test_an_activation_that_is_not_finite_is_named(bench: Bench) -> None:
    nodes = [
        helper.make_node("Log", ["x"], ["l"], "log"),
        helper.make_node("Conv", ["l", "w"], ["y"], "conv"),
    ]
    weights = {"w": np.ones((4, 3, 1, 1), np.float32)}
    model = make(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 4, 16, 16]}, weights)
    with pytest.raises(StepError, match="'l' becomes NaN on calibration row 0 in Log node 'log'"):
        quantize(bench, model)


def test_nothing_to_quantize(bench: Bench) -> None:
    with pytest.raises(StepError, match="no convolution or matrix product"):
        quantize(bench, relu(), np.ones((2, 3), np.float32))


def test_an_outlier_costs_minmax_much_and_entropy_little(bench: Bench) -> None:
    """What ONNX Runtime's own entropy calibration does not do."""
    data = np.tile(X, (4, 1, 1, 1))
    data[5, 1, 3, 3] = 60
    ranges, gaps = {}, {}
    for method in ("minmax", "percentile", "entropy"):
        out, facts = quantize(bench, cnn(), data, method=method)
        ranges[method], gaps[method] = facts.ranges["x"][1], gap(out, cnn(), bench)
    assert ranges["minmax"] == 60
    assert ranges["percentile"] < 6
    assert ranges["entropy"] < 6
    assert gaps["minmax"] > 2 * max(gaps["percentile"], gaps["entropy"])


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_digits_keep_their_accuracy(bench: Bench, method: str) -> None:
    source = bench.example("digits", "digits.onnx")
    evaluation = bench.example("digits", "evaluation.npz")
    out, _ = bench.run(
        "quantize",
        params={"scheme": "u8s8", "samples": 200, "method": method},
        model=source,
        calibration=bench.example("digits", "calibration.npz"),
    )
    reference, _ = bench.run("reference", params=ACCURACY, model=source, evaluation=evaluation)
    params = {"runtime": "onnxruntime", "threads": 1, **ACCURACY}
    _, facts = bench.run(
        "verify",
        params=params,
        model=out,
        source=source,
        reference=reference,
        evaluation=evaluation,
    )
    assert facts.score.drop <= 0.005


def test_bytes_are_the_same_in_another_process(bench: Bench) -> None:
    source, calibration = bench.model(cnn()), bench.data("calibration", x=X)
    made = []
    for seed in ("1", "2"):
        out = bench.folder()
        code = (
            "import sys; from pathlib import Path; from repo_builder.steps import quantize as q\n"
            "model, data, out = map(Path, sys.argv[1:])\n"
            "q.run(q.Inputs(model, data), q.Params('u8s8', 12, 'entropy'), out)"
        )
        arguments = [sys.executable, "-c", code, str(source), str(calibration), str(out)]
        subprocess.run(arguments, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        made.append((out / "model.onnx").read_bytes())
    assert made[0] == made[1]
