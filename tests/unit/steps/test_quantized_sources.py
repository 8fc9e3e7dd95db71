"""Models that come quantized: recognised, passed on with their scales, or refused in a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node as op
from test_quantize_kinds import normal
from workbench import Bench, make

from repo_builder import targets
from repo_builder.base.errors import DataError, ModelError, SpecError
from repo_builder.introspect import quantized
from repo_builder.spec.load import load
from repo_builder.spec.types import Spec
from repo_builder.steps import _runtimes, compile_tensorrt

X = normal(1, 32, 3, 8, 8, size=1)
INT8_ZERO = np.int8(0)


def trained(zero: Any = INT8_ZERO, *, folded: bool = False) -> onnx.ModelProto:
    """As quantization-aware training exports it; `folded`: its weights are int8 already."""
    weights: dict[str, Any] = {"zero": zero}
    nodes: list[onnx.NodeProto] = []

    def pair(tensor: str, scale: Any, **more: int) -> str:
        weights[f"{tensor}_s"] = np.asarray(scale, np.float32)
        weights[f"{tensor}_z"] = np.full(
            np.shape(scale), 0 if more else zero, np.asarray(zero).dtype
        )
        if more:
            weights[f"{tensor}_z"] = np.zeros(np.shape(scale), np.int8)
        inputs = [f"{tensor}_s", f"{tensor}_z"]
        if folded and more:
            steps = np.rint(weights.pop(tensor) / np.reshape(scale, (-1, 1, 1, 1)))
            weights[f"{tensor}_q"] = np.clip(steps, -127, 127).astype(np.int8)
        else:
            nodes.append(op("QuantizeLinear", [tensor, *inputs], [f"{tensor}_q"], **more))
        nodes.append(op("DequantizeLinear", [f"{tensor}_q", *inputs], [f"{tensor}_d"], **more))
        return f"{tensor}_d"

    last = "x"
    for number, shape in enumerate([(8, 3, 3, 3), (4, 8, 3, 3)]):
        name = f"W{number}"
        weights[name] = np.abs(normal(number + 2, *shape)) - np.float32(0.1)
        inner = pair(last, 5 * (10**number) / 127)
        scales = np.abs(weights[name]).reshape(shape[0], -1).max(1) / 127
        nodes.append(op("Conv", [inner, pair(name, scales, axis=0)], [f"c{number}"], pads=[1] * 4))
        nodes.append(op("Relu", [f"c{number}"], [f"r{number}"]))
        last = f"r{number}"
    nodes.append(op("GlobalAveragePool", [last], ["y"]))
    used = {name for node in nodes for name in node.input}
    stored = {name: array for name, array in weights.items() if name in used}
    return make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 1, 1]}, stored)


def operators() -> onnx.ModelProto:
    """The same kind of model on integers: QLinearConv between the borders."""
    stored = {
        "s": np.float32(0.05),
        "z": np.uint8(128),
        "w": np.random.default_rng(0).integers(-127, 127, (4, 3, 1, 1)).astype(np.int8),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
    }
    nodes = [
        op("QuantizeLinear", ["x", "s", "z"], ["q"]),
        op("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z"], ["c"], "first"),
        op("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    return make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 8, 8]}, stored)


def dynamic() -> onnx.ModelProto:
    stored = {"w": normal(5, 16, 4).astype(np.int8), "wz": np.int8(0)}
    nodes = [
        op("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        op("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        op("Cast", ["i"], ["f"], to=1),
        op("Mul", ["f", "s"], ["y"]),
    ]
    return make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, stored)


def weights_only() -> onnx.ModelProto:
    stored = {"w": np.arange(64, dtype=np.int8).reshape(16, 4), "s": np.float32(0.02)}
    nodes = [op("DequantizeLinear", ["w", "s"], ["d"]), op("MatMul", ["x", "d"], ["y"])]
    return make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, stored)


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (trained(), "QDQ"),
        (operators(), "QOperator"),
        (dynamic(), "dynamic"),
        (weights_only(), "weights"),
    ],
)
def test_the_form_is_recognised(bench: Bench, model: onnx.ModelProto, form: str) -> None:
    onnx.checker.check_model(model, full_check=True)
    found = quantized.find(model)
    assert found is not None
    assert found.form == form
    _, facts = bench.run("import", model=bench.model(model))
    assert facts.quantized == form


def test_a_float_model_is_not_quantized() -> None:
    nodes = [op("MatMul", ["x", "w"], ["y"])]
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, {"w": normal(1, 16, 4)})
    assert quantized.find(model) is None


def quantize(bench: Bench, model: onnx.ModelProto, **params: Any) -> Any:
    given = {"scheme": "u8s8", "samples": 1, **params}
    data = bench.data("calibration", x=X)
    return bench.run("quantize", params=given, model=bench.model(model), calibration=data)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("scheme", ["u8s8", "s8s8"])
def test_trained_scales_are_passed_on(bench: Bench, scheme: str, folded: bool) -> None:
    model = trained(folded=folded)
    out, facts = quantize(bench, model, scheme=scheme)
    assert (out / "model.onnx").read_bytes() == bench.model(model).joinpath(
        "model.onnx"
    ).read_bytes()
    assert facts.form == "QDQ"
    assert facts.quantized["Conv"] == 2


@pytest.mark.parametrize("folded", [False, True])
def test_weights_of_8_bits_become_unsigned_where_vnni_may_lack(bench: Bench, folded: bool) -> None:
    model = trained(folded=folded)
    out, _ = quantize(bench, model, weight_bits=7)
    written = onnx.load(out / "model.onnx")
    onnx.checker.check_model(written, full_check=True)
    stored = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    axes = [n for n in written.graph.node if n.op_type == "DequantizeLinear" and n.attribute]
    assert {stored[node.input[2]].dtype for node in axes} == {np.dtype(np.uint8)}
    before = _runtimes.load(bench.model(model), "onnxruntime").run({"x": X})["y"]
    after = _runtimes.load(out, "onnxruntime").run({"x": X})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "scheme", "whole", "words"),
    [
        (trained(np.uint8(128)), "s8s8", False, "QuantizeLinear node .* works on uint8"),
        (trained(np.int8(3)), "s8s8", False, "zero point other than 0"),
        (operators(), "s8s8", False, "QOperator: 1 QLinearConv.*TensorRT takes QDQ"),
        (operators(), "u8s8", True, "QOperator: 1 QLinearConv.*TFLite takes QDQ"),
        (dynamic(), "s8s8", False, "dynamic: .*TensorRT takes QDQ"),
        (
            trained(),
            "u8s8",
            True,
            "not all of it as TFLite needs it .*is not quantized, nor are 2 more",
        ),
    ],
)
def test_what_a_target_cannot_take_is_refused_in_a_sentence(
    bench: Bench, model: onnx.ModelProto, scheme: str, whole: bool, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as failure:
        quantize(bench, model, scheme=scheme, whole=whole)
    assert not failure.value.problems
    assert "\n" not in str(failure.value)


def test_scales_of_its_own_need_no_calibration_data(bench: Bench, tmp_path: Path) -> None:
    floats = make(
        [op("MatMul", ["x", "w"], ["y"])],
        {"x": ["n", 16]},
        {"y": ["n", 4]},
        {"w": normal(1, 16, 4)},
    )
    for name, model in (("qdq", trained()), ("floats", floats)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\nversion: 1.0.0\nsource: {{onnx: {name}.onnx}}\ntargets: [cpu]\n"
            "optimize: {precision: int8}\n"
        )
    (spec,) = load([tmp_path / "qdq.yaml"], targets.load(None))
    assert isinstance(spec, Spec)
    assert spec.calibration is None
    with pytest.raises(SpecError, match="int8 needs calibration data"):
        load([tmp_path / "floats.yaml"], targets.load(None))
    params = {"scheme": "u8s8", "samples": 1}
    _, facts = bench.run("quantize", params=params, model=bench.model(trained()))
    assert facts.form == "QDQ"
    with pytest.raises(DataError, match="int8 needs calibration data"):
        bench.run("quantize", params=params, model=bench.model(floats))


def test_openvino_takes_pairs_and_says_what_it_cannot_read(bench: Bench) -> None:
    data = bench.data("calibration", x=X)
    source = bench.model(trained())
    params = {"precision": "int8"}
    out, facts = bench.run("compile-openvino", params=params, model=source, calibration=data)
    assert facts.quantized == {"Convolution": 2}
    expected = _runtimes.load(source, "onnxruntime").run({"x": X})["y"]
    answer = _runtimes.load(out, "openvino").run({"x": X})["y"]
    assert np.linalg.norm(answer - expected) < 0.02 * np.linalg.norm(expected)
    with pytest.raises(ModelError, match="QOperator.*OpenVINO cannot read; export it as QDQ"):
        bench.run("compile-openvino", params=params, model=bench.model(operators()))


def test_asked_for_other_precisions(bench: Bench) -> None:
    source = bench.model(trained(folded=True))
    before = _runtimes.load(source, "onnxruntime").run({"x": X})["y"]
    params = {"precision": "fp32", "weight_bits": 7}
    out, _ = bench.run("compile-onnxruntime", params=params, model=source)
    types = {tensor.data_type for tensor in onnx.load(out / "model.onnx").graph.initializer}
    assert onnx.TensorProto.UINT8 in types
    after = _runtimes.load(out, "onnxruntime").run({"x": X})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    for step in ("compile-onnxruntime", "compile-openvino"):
        with pytest.raises(ModelError, match=r"quantized already .*precision: int8"):
            bench.run(step, params={"precision": "fp16"}, model=source)


def stored_in(kind: int, values: Any) -> onnx.ModelProto:
    """A product with weights stored in 4 bits or in float8, in floating point when it runs."""
    weights = onnx.helper.make_tensor("w", kind, [16, 4], values)
    nodes = [op("DequantizeLinear", ["w", "s"], ["d"], "scale"), op("MatMul", ["x", "d"], ["y"])]
    made = make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, {"s": np.float32(0.1)}, opset=21, ir=10)
    made.graph.initializer.append(weights)
    return made


STEPS = np.random.default_rng(4).integers(-8, 8, 64)
STORED = {
    "int4": stored_in(onnx.TensorProto.INT4, STEPS.tolist()),
    "float8e4m3fn": stored_in(onnx.TensorProto.FLOAT8E4M3FN, STEPS.astype(float).tolist()),
}


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_weights_of_4_bits_and_float8_answer_like_the_source(
    bench: Bench, kind: str, runtime: str
) -> None:
    source, _ = bench.run("import", model=bench.model(STORED[kind]))
    out, _ = bench.run(f"compile-{runtime}", model=source)
    reference, _ = bench.run("reference", model=source)
    _, facts = bench.run(
        "verify", params={"runtime": runtime}, model=out, source=source, reference=reference
    )
    assert facts.arithmetic == "int8"
    rows = normal(9, 8, 16)
    runners = [_runtimes.load(source, "onnxruntime"), _runtimes.load(out, runtime)]
    want, got = (runner.run({"x": rows})["y"] for runner in runners)
    assert np.linalg.norm(got - want) < 0.03 * np.linalg.norm(want)
    assert facts.broken == ()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (STORED["int4"], "TensorRT takes QDQ with scales for activations only"),
        (trained(np.uint8(128)), "works on uint8, where TensorRT takes int8"),
        (trained(), "write `optimize: {precision: int8}`, which keeps its scales"),
    ],
)
def test_tensorrt_in_another_precision_says_what_helps(
    bench: Bench, model: onnx.ModelProto, words: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        bench.run("compile-onnxruntime", params={"precision": "fp16"}, model=bench.model(model))
    with pytest.raises(ModelError, match=re.escape(words)) as failure:
        compile_tensorrt.run(
            compile_tensorrt.Inputs(bench.model(model)),
            compile_tensorrt.Params("device"),
            bench.folder(),
            bench.folder(),
        )
    assert not failure.value.problems
