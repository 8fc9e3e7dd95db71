"""simplify, compile-onnxruntime, compile-openvino."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxslim
import pytest
from onnx import TensorProto, helper
from workbench import Bench, cnn, make

from repo_builder.base.errors import DataError, ModelError, SpecError, StepError
from repo_builder.steps import _onnx, _openvino, _runtimes

X = np.random.default_rng(1).standard_normal((6, 3, 16, 16)).astype(np.float32)


def answers(folder: Path, runtime: str = "onnxruntime") -> np.ndarray:
    return _runtimes.load(folder, runtime).run({"x": X})["y"]


def test_simplify_fuses_and_answers_alike(bench: Bench) -> None:
    source = bench.model(cnn())
    out, facts = bench.run("simplify", model=source)
    operators = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    assert "BatchNormalization" not in operators
    assert facts.nodes_after < facts.nodes_before
    np.testing.assert_allclose(answers(out), answers(source), rtol=1e-4, atol=1e-3)


def test_an_output_may_turn_out_narrower_than_declared(bench: Bench) -> None:
    """A batch dimension that is a lie, which both tools find out."""
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    model = make([node], {"x": ["N", 4]}, {"y": ["N", 4]}, {"s": np.array([1, 4])})
    out, _ = bench.run("simplify", model=bench.model(model))
    out, _ = bench.run("compile-onnxruntime", model=out)
    (declared,) = onnx.load(out / "model.onnx").graph.output
    assert [d.dim_value for d in declared.type.tensor_type.shape.dim] == [1, 4]


def test_simplify_leaves_dimensions_without_a_name(bench: Bench) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[?, 4] x) => (float[?, 4] y)'
    model = onnx.parser.parse_model(text + " { y = Relu(x) }")
    out, _ = bench.run("simplify", model=bench.model(model))
    assert _onnx.interface(_onnx.load(out)) == _onnx.interface(model)


def test_a_tool_that_changes_the_interface_is_told() -> None:
    source = make([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, {"y": ["N", 4]})
    for shapes in ({"x": [1, 4]}, {"y": ["N", 5]}, {"y": ["N", "K"]}, {"y": [4]}):
        sides = {"x": ["N", 4], "y": ["N", 4], **shapes}
        changed = make(
            [helper.make_node("Relu", ["x"], ["y"])], {"x": sides["x"]}, {"y": sides["y"]}
        )
        with pytest.raises(ModelError, match=f"it changed the model's .*put {next(iter(shapes))};"):
            _onnx.require_same_interface(source, changed, "it", "fix")


def test_what_the_simplifier_fails_on_goes_on_as_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(model: onnx.ModelProto, **_: object) -> onnx.ModelProto:
        raise AssertionError(f"cannot shape {model.graph.name}")

    source = bench.model(cnn())
    monkeypatch.setattr(onnxslim, "slim", crash)
    out, facts = bench.run("simplify", model=source)
    assert (out / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()
    assert facts.nodes_after == facts.nodes_before > 0
    assert facts.why_not.startswith("the simplifier failed: cannot shape graph")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim.pop(), "input x"),
        (lambda model: model.graph.node.pop(0), "input 'c1' of node"),
    ],
)
def test_what_the_simplifier_breaks_goes_on_as_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Callable[..., object], why: str
) -> None:
    def broken(model: onnx.ModelProto, **_: object) -> onnx.ModelProto:
        change(model)
        return model

    source = bench.model(cnn())
    monkeypatch.setattr(onnxslim, "slim", broken)
    out, facts = bench.run("simplify", model=source)
    assert (out / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()
    assert why in facts.why_not


def test_lack_of_memory_is_no_fact_about_the_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(_: onnx.ModelProto, **__: object) -> onnx.ModelProto:
        raise MemoryError

    monkeypatch.setattr(onnxslim, "slim", lack)
    with pytest.raises(StepError, match="not enough memory"):
        bench.run("simplify", model=bench.model(cnn()))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx_for_onnxruntime_is_portable(bench: Bench, precision: str) -> None:
    source = bench.model(cnn())
    out, facts = bench.run("compile-onnxruntime", params={"precision": precision}, model=source)
    model = onnx.load(out / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [o.domain for o in model.opset_import] == [""]
    assert facts.operators["Conv"] == 2
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert (TensorProto.FLOAT16 in kinds) == (precision == "fp16")
    tolerance = {"fp32": 1e-5, "fp16": 2e-3}[precision]
    scale = np.abs(answers(source)).max()
    np.testing.assert_allclose(answers(out), answers(source), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx_bytes_are_the_same_again(bench: Bench, precision: str) -> None:
    source = bench.model(cnn())
    first, second = (
        bench.run("compile-onnxruntime", params={"precision": precision}, model=source)[0]
        for _ in range(2)
    )
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("params", "tolerance"),
    [
        ({"precision": "fp32"}, 0.01),
        ({"precision": "fp16"}, 0.01),
        ({"precision": "int8", "samples": 6}, 0.05),
        ({"precision": "int8", "method": "percentile", "per_channel": False}, 0.05),
    ],
    ids=["fp32", "fp16", "int8", "int8-percentile"],
)
def test_openvino(bench: Bench, params: dict[str, object], tolerance: float) -> None:
    source, calibration = bench.model(cnn()), bench.data("calibration", x=X)
    first, facts = bench.run(
        "compile-openvino", params=params, model=source, calibration=calibration
    )
    second, _ = bench.run("compile-openvino", params=params, model=source, calibration=calibration)
    assert sorted(p.name for p in first.iterdir()) == ["model.bin", "model.xml"]
    for name in ("model.bin", "model.xml"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert str(bench.scratch) not in (first / "model.xml").read_text()
    runner = _runtimes.load(first, "openvino")
    assert [(t.name, t.dtype, t.shape) for t in runner.inputs] == [("x", "FP32", ("", 3, 16, 16))]
    assert [(t.name, t.shape) for t in runner.outputs] == [("y", ("", 5))]
    heavy = {"Convolution": 2, "MatMul": 1}
    int8 = params["precision"] == "int8"
    assert (facts.quantized, facts.floating) == ((heavy, {}) if int8 else ({}, heavy))
    expected = answers(source)
    gap = np.linalg.norm(answers(first, "openvino") - expected) / np.linalg.norm(expected)
    assert gap < tolerance


def test_openvino_leaves_out_what_is_excluded(bench: Bench) -> None:
    source, _ = bench.run("simplify", model=bench.model(cnn()))
    calibration = bench.data("calibration", x=X)

    def build(*exclude: str) -> Any:
        params = {"precision": "int8", "exclude": exclude}
        return bench.run("compile-openvino", params=params, model=source, calibration=calibration)

    _, facts = build("conv2")
    assert facts.quantized == {"Convolution": 1, "MatMul": 1}
    assert facts.floating == {"Convolution": 1}
    with pytest.raises(ModelError, match=r"'convv1' matches no operator; .*conv2"):
        build("convv1")


def test_openvino_without_what_int8_needs(bench: Bench) -> None:
    source = bench.model(cnn())
    with pytest.raises(DataError, match="int8 needs calibration data"):
        bench.run("compile-openvino", params={"precision": "int8"}, model=source)
    with pytest.raises(SpecError, match="no entropy calibration"):
        bench.run(
            "compile-openvino",
            params={"precision": "int8", "method": "entropy"},
            model=source,
            calibration=bench.data("calibration", x=X),
        )


def test_openvino_keeps_outputs_that_are_equal_apart(bench: Bench) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["y"], ["z"])]
    model = make(nodes, {"x": ["N", 3]}, {"y": ["N", 3], "z": ["N", 3]})
    out, _ = bench.run("compile-openvino", model=bench.model(model))
    runner = _runtimes.load(out, "openvino")
    assert [tensor.name for tensor in runner.outputs] == ["y", "z"]
    answer = runner.run({"x": np.array([[1, -1, 2]], np.float32)})
    assert answer["y"].tolist() == answer["z"].tolist() == [[1, 0, 2]]


def test_openvino_for_another_device_is_of_one_shape(bench: Bench) -> None:
    source = bench.model(cnn())
    params = {"precision": "fp16", "device": "MYRIAD", "last_release": "2022.3", "opset": 10}
    out, facts = bench.run("compile-openvino", params=params, model=source)
    assert facts.opset <= 10
    assert facts.level.name == "prepared"
    assert "OpenVINO 2022.3, the last that knows MYRIAD, was not here" in facts.level.reason
    assert _runtimes.load(out, "openvino").inputs[0].shape == (1, 3, 16, 16)
    rows = _runtimes.load(out, "openvino-rows")
    assert rows.inputs[0].shape == ("", 3, 16, 16)
    expected = answers(source)
    assert np.linalg.norm(rows.run({"x": X})["y"] - expected) < 0.01 * np.linalg.norm(expected)


def test_openvino_names_dimensions_that_a_device_cannot_vary(bench: Bench) -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", "w"]}, {"y": ["N", "w"]})
    with pytest.raises(ModelError, match=r"input 'x': dimension 1 is dynamic; .*export"):
        bench.run("compile-openvino", params={"device": "NPU"}, model=bench.model(model))


def test_openvino_names_operators_that_an_old_release_does_not_read(bench: Bench) -> None:
    ones = helper.make_node("Constant", [], ["s"], value_floats=[1.0] * 2)
    zeros = helper.make_node("Constant", [], ["b"], value_floats=[0.0] * 2)
    norm = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    model = make([ones, zeros, norm], {"x": [1, 4, 3]}, {"y": [1, 4, 3]})
    params = {"device": "MYRIAD", "last_release": "2022.3", "opset": 10}
    with pytest.raises(ModelError, match=r"opset 1\d; OpenVINO 2022\.3 reads up to opset 10"):
        bench.run("compile-openvino", params=params, model=bench.model(model))


def test_openvino_asks_a_device_that_is_here(bench: Bench) -> None:
    out, facts = bench.run("compile-openvino", model=bench.model(cnn()))
    assert facts.level is None
    level = _openvino.ask(out / "model.xml", "CPU", "")  # the one device that every machine has
    assert level.name == "compiled"
    assert "OpenVINO compiled the IR for" in level.reason
