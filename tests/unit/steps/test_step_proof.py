"""What `verify` says of models that answer wrongly: by kind, with the node where it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from workbench import Bench, cnn, make

from repo_builder.steps import _answers, _batch, _data, _rounded, _runtimes

RANDOM = np.random.default_rng(0)


def prove(
    bench: Bench, source: onnx.ModelProto, built: Any, runtime: str = "onnxruntime", **more: Any
) -> Any:
    """The facts of `verify`; `more` are its params, or inputs where they are folders."""
    data: dict[str, Any] = {
        name: more.pop(name) for name in ("evaluation", "calibration") if name in more
    }
    model = bench.model(source)
    reference, _ = bench.run("reference", model=model, **data)
    inputs = {"source": model, "reference": reference, **data}
    if isinstance(built, onnx.ModelProto):
        built = bench.model(built)
    if more.pop("emulated", False):
        shared = {"model": model, "reference": reference, **data}
        kept, more["ranges"] = bench.run("fp16-ranges", **shared)
        if more.pop("mixed", False):
            shared["ranges"] = kept
            built, _ = bench.run(
                "compile-onnxruntime", params={"precision": "fp16"}, model=model, ranges=kept
            )
        inputs["emulated"], _ = bench.run("emulate-fp16", **shared)
    ranges = more.pop("ranges", None)
    _, facts = bench.run("verify", params={"runtime": runtime, **more}, model=built, **inputs)
    return facts if ranges is None else (facts, ranges)


def changed(model: onnx.ModelProto, weight: str, factor: float) -> onnx.ModelProto:
    """A copy with one weight multiplied."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    stored = next(t for t in copy.graph.initializer if t.name == weight)
    array = onnx.numpy_helper.to_array(stored) * np.float32(factor)
    stored.CopyFrom(onnx.numpy_helper.from_array(array, weight))
    return copy


def test_the_first_wrong_node_is_named(bench: Bench) -> None:
    facts = prove(bench, cnn(), changed(cnn(), "w2", 1.1))
    assert facts.broken[0].startswith("output 'y' differs by ")
    assert facts.first == "node 'conv2' (Conv)"


def test_the_first_wrong_node_in_openvino_is_named(bench: Bench) -> None:
    built, _ = bench.run("compile-openvino", model=bench.model(changed(cnn(), "w2", 1.5)))
    facts = prove(bench, cnn(), built, "openvino")
    assert facts.broken
    assert facts.first in ("node 'conv2' (Conv)", "node 'relu2' (Relu)")


def test_the_first_wrong_node_in_tflite_is_named(bench: Bench) -> None:
    """TFLite shows no inner tensors, but the quantized model from which it was made does."""
    even = cnn(mean="GlobalAveragePool")
    scale = next(tensor for tensor in even.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones(5, np.float32), "scale"))
    wrong = changed(even, "w2", 3.0)
    calibration = bench.data("calibration", x=RANDOM.random((16, 3, 16, 16), np.float32))
    quantized, _ = bench.run(
        "quantize",
        params={"scheme": "u8s8", "whole": True, "samples": 16},
        model=bench.model(wrong),
        calibration=calibration,
    )
    built, _ = bench.run("compile-tflite", model=quantized)
    source = bench.model(even)
    reference, _ = bench.run("reference", model=source, calibration=calibration)
    inputs = {"source": source, "reference": reference, "calibration": calibration}
    params = {"runtime": "litert", "precision": "int8"}
    _, facts = bench.run("verify", params=params, model=built, quantized=quantized, **inputs)
    assert facts.broken
    assert facts.first == "node 'relu2' (Relu)"  # the convolution's own output is fused away


def test_limits_of_the_precision_and_of_the_spec(bench: Bench) -> None:
    built = changed(cnn(), "w3", 1.005)
    assert prove(bench, cnn(), built).broken
    assert not prove(bench, cnn(), built, precision="fp16").broken
    widened = prove(bench, cnn(), built, widened={"relative": 0.03, "columns": 0.1})
    assert (widened.broken, widened.limits.relative) == ((), 0.03)
    assert prove(bench, cnn(), built, precision="int8", widened={"relative": 0.001}).broken


def test_a_quantized_source_is_held_to_the_limits_of_int8(bench: Bench) -> None:
    quantized, _ = bench.run(
        "quantize",
        params={"scheme": "u8s8", "samples": 16},
        model=bench.model(cnn()),
        calibration=bench.data("calibration", x=RANDOM.random((16, 3, 16, 16), np.float32)),
    )
    source = onnx.load(quantized / "model.onnx")
    assert prove(bench, source, source).arithmetic == "int8"


def test_calibration_data_is_compared_where_there_is_no_evaluation_data(bench: Bench) -> None:
    x = RANDOM.standard_normal((200, 3, 16, 16)).astype(np.float32)
    facts = prove(bench, cnn(), cnn(), calibration=bench.data("calibration", x=x))
    assert (facts.origin, facts.rows) == ("calibration", 64)


def test_another_shape_is_refused(bench: Bench) -> None:
    """As a rewritten Reshape answers: the same values in another rank."""
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    source = make([node], {"x": ["N", 4]}, {"y": ["N", 4]})
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Reshape", ["r", "s"], ["y"])]
    built = make(nodes, {"x": ["N", 4]}, {"y": ["N", 2, 2]}, {"s": np.array([-1, 2, 2])})
    facts = prove(bench, source, built)
    assert facts.broken == ("output 'y' has shape [1, 2, 2] instead of [1, 4]",)
    assert facts.first == "node 'relu' (Relu)"


def integers(*nodes: onnx.NodeProto, floats: bool = False) -> onnx.ModelProto:
    """t int64 [N, 2] -> y, in int64 or in fp32."""
    kinds = (TensorProto.INT64, TensorProto.FLOAT if floats else TensorProto.INT64)
    t, y = (
        helper.make_tensor_value_info(name, kind, ["N", 2])
        for name, kind in zip("ty", kinds, strict=True)
    )
    stored = [onnx.numpy_helper.from_array(np.array(3), "k")]
    graph = helper.make_graph(list(nodes), "integers", [t], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_openvino(bench: Bench, model: onnx.ModelProto, **data: Any) -> Any:
    built, _ = bench.run("compile-openvino", model=bench.model(model))
    return prove(bench, model, built, "openvino", **data)


def test_integers_beyond_32_bits(bench: Bench) -> None:
    """OpenVINO's CPU device computes int64 in 32 bits; small random rows never show it."""
    model = integers(helper.make_node("Mul", ["t", "k"], ["y"], "times"))
    assert prove(bench, model, model).broken == ()
    facts = in_openvino(bench, model)
    assert facts.outputs[0].relative == 0
    (said,) = facts.broken
    assert said.startswith("for 64-bit integers up to 2e+12 output 'y' gives another label or")
    small = bench.data("calibration", t=np.arange(40).reshape(20, 2))
    assert in_openvino(bench, model, calibration=small).broken == ()


def test_large_integers_behind_a_cast_are_told_and_not_refused(bench: Bench) -> None:
    """They may be a mask, which never holds such values."""
    nodes = (
        helper.make_node("Mul", ["t", "k"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    )
    facts = in_openvino(bench, integers(*nodes, floats=True))
    assert facts.broken == ()
    assert facts.warnings[0].startswith("for 64-bit integers up to 2e+12 output 'y' differs by")


def test_indices_and_sizes_are_given_no_large_values(bench: Bench) -> None:
    """The first would fail in the source, the second ask for all memory."""
    table = integers(helper.make_node("GatherElements", ["t", "t"], ["y"], axis=1))
    assert in_openvino(bench, table).warnings == ()
    reference, _ = bench.run("reference", model=bench.model(table))
    assert not (reference / "large").exists()


def one_op(*nodes: onnx.NodeProto, opset: int = 17, **weights: Any) -> onnx.ModelProto:
    """x [N, 64] -> y [N, 64]."""
    return make(list(nodes), {"x": ["N", 64]}, {"y": ["N", 64]}, weights, opset=opset)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], kind.lower(), **attributes)


OVERFLOWS: dict[str, tuple[onnx.ModelProto, str]] = {
    "pow": (one_op(node("Pow", "x two", "p"), node("Sqrt", "p", "y"), two=np.float32(2)), "pow"),
    "mul": (one_op(node("Mul", "x x", "p"), node("Sqrt", "p", "y")), "mul"),
    "reducesum": (
        one_op(
            node("Abs", "x", "a"),
            node("ReduceSum", "a axes", "s", keepdims=1),
            node("Div", "x s", "y"),
            axes=np.array([1]),
        ),
        "reducesum",
    ),
    "reducel2": (
        one_op(node("ReduceL2", "x", "n", axes=[1], keepdims=1), node("Div", "x n", "y")),
        "reducel2",
    ),
    "exp": (
        one_op(
            node("Mul", "x small", "m"),
            node("Exp", "m", "e"),
            node("ReduceSum", "e axes", "s", keepdims=1),
            node("Div", "e s", "y"),
            small=np.float32(0.02),
            axes=np.array([1]),
        ),
        "exp",
    ),
    "matmul": (
        one_op(
            node("MatMul", "x w", "m"),
            node("Mul", "m small", "y"),
            w=np.full((64, 64), 9, np.float32),
            small=np.float32(1e-4),
        ),
        "matmul",
    ),
}


@pytest.mark.parametrize("kind", OVERFLOWS)
def test_what_overflows_in_fp16_is_refused_and_named(bench: Bench, kind: str) -> None:
    """ONNX Runtime computes an fp16 model in fp32, where nothing of this is seen."""
    model, first = OVERFLOWS[kind]
    x = RANDOM.uniform(100, 2000, (16, 64)).astype(np.float32)
    data = bench.data("calibration", x=x)
    built, _ = bench.run(
        "compile-onnxruntime", params={"precision": "fp16"}, model=bench.model(model)
    )
    assert prove(bench, model, built, precision="fp16", calibration=data).broken == ()
    facts, ranges = prove(bench, model, built, precision="fp16", emulated=True, calibration=data)
    assert facts.broken[0].startswith("in fp16 output 'y'")
    assert facts.first.startswith(f"node '{first}'")
    assert ranges.headroom < 1
    assert ranges.overflowing[0].node.startswith(f"node '{first}'")
    assert ranges.overflowing[0].value > 65504
    assert ranges.spoils


@pytest.mark.parametrize("kind", OVERFLOWS)
def test_what_overflows_stays_in_fp32_where_the_device_has_both(bench: Bench, kind: str) -> None:
    model, _ = OVERFLOWS[kind]
    x = RANDOM.uniform(100, 2000, (16, 64)).astype(np.float32)
    data = bench.data("calibration", x=x)
    more = {"precision": "fp16", "emulated": True, "mixed": True, "calibration": data}
    facts, _ = prove(bench, model, None, **more)
    assert facts.broken == ()
    assert facts.outputs[0].relative < 0.01


def test_an_input_that_fp16_cannot_hold_stays_in_fp32(bench: Bench) -> None:
    model = one_op(node("Mul", "x small", "m"), node("Tanh", "m", "y"), small=np.float32(1e-6))
    data = bench.data("calibration", x=RANDOM.normal(0, 1e6, (16, 64)).astype(np.float32))
    facts, ranges = prove(bench, model, model, precision="fp16", emulated=True, calibration=data)
    assert facts.broken
    assert ranges.overflowing[0].node == "input 'x'"
    more = {"precision": "fp16", "emulated": True, "mixed": True, "calibration": data}
    facts, _ = prove(bench, model, None, **more)
    assert facts.broken == ()


def test_integers_beside_what_stays_in_fp32(bench: Bench) -> None:
    """A cast from integers is no cast of the converter's own, though it ends in fp16 too."""
    nodes = (
        node("Mul", "x x", "p"),
        node("ArgMax", "p", "a", axis=1, keepdims=1),
        helper.make_node("Cast", ["a"], ["f"], "cast", to=TensorProto.FLOAT),
        node("Max", "p f", "m"),
        node("Sqrt", "m", "y"),
    )
    data = bench.data("calibration", x=RANDOM.uniform(100, 2000, (16, 64)).astype(np.float32))
    more = {"precision": "fp16", "emulated": True, "mixed": True, "calibration": data}
    facts, ranges = prove(bench, one_op(*nodes), None, **more)
    assert ranges.spoils
    assert facts.broken == ()


def test_a_mask_that_only_a_softmax_sees_may_overflow(bench: Bench) -> None:
    """-1e9 becomes the lowest number of fp16, which is as good a mask."""
    nodes = (node("Add", "x mask", "a"), node("Softmax", "a", "y", axis=-1))
    mask = np.where(np.arange(64) < 32, 0, -1e9).astype(np.float32)
    model = one_op(*nodes, mask=mask)
    facts, ranges = prove(bench, model, model, precision="fp16", emulated=True)
    assert facts.broken == ()
    assert (ranges.count, ranges.spoils) == (1, False)


def test_good_models_pass_in_fp16(bench: Bench) -> None:
    facts, ranges = prove(bench, cnn(), cnn(), precision="fp16", emulated=True)
    assert facts.broken == ()
    assert 0 < facts.outputs[0].relative < 0.01
    assert (ranges.count, ranges.headroom > 1) == (0, True)


def test_small_numbers_that_fp16_lacks(bench: Bench) -> None:
    """1e-5 squared is 1e-10, which is 0 in fp16: a variance that vanishes."""
    model = one_op(
        node("Mul", "x tiny", "t"),
        node("Pow", "t two", "s"),
        node("Add", "s eps", "e"),
        node("Sqrt", "e", "r"),
        node("Div", "t r", "y"),
        tiny=np.float32(1e-5),
        two=np.float32(2),
        eps=np.float32(1e-12),
    )
    facts, _ = prove(bench, model, model, precision="fp16", emulated=True)
    assert facts.broken


def test_constants_in_fp16() -> None:
    held = _rounded.constant(np.array([1e9, -np.inf, 1e-9, -1e-9, 0.0, 1.5], np.float32))
    assert held.tolist() == [65504.0, -65504.0, 2.0**-24, -(2.0**-24), 0.0, 1.5]


def test_one_row_is_enough_to_try_a_batch(bench: Bench) -> None:
    weights = {"w": RANDOM.standard_normal((16, 8)).astype(np.float32)}
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    good = make([product], {"x": ["N", 16]}, {"y": ["N", 8]}, weights)
    largest = [
        product.__class__.FromString(product.SerializeToString()),
        helper.make_node("ReduceMax", ["m"], ["largest"], keepdims=0),
        helper.make_node("Div", ["m", "largest"], ["y"]),
    ]
    largest[0].output[0] = "m"
    mixes = make(largest, {"x": ["N", 16]}, {"y": ["N", 8]}, weights)
    x = RANDOM.standard_normal((1, 16)).astype(np.float32)
    for model, said in ((good, ""), (mixes, "'y' of a row changes with the other rows")):
        runner = _runtimes.load(bench.model(model), "onnxruntime")
        samples = _data.check({"x": x}, runner.inputs, "rows")
        assert _batch.why_not(runner, samples, runner.run({"x": x})).startswith(said)


def test_a_slow_runtime_is_asked_for_fewer_rows(bench: Bench) -> None:
    runner = _runtimes.load(bench.model(cnn()), "onnxruntime")
    x = RANDOM.standard_normal((20, 3, 16, 16)).astype(np.float32)
    samples = _data.check({"x": x}, runner.inputs, "rows")
    assert len(_answers.collect(runner, samples)["y"]) == 20
    assert len(_answers.collect(runner, samples, seconds=-1)["y"]) == _answers.LEAST_RUNS


def test_outputs_that_openvino_renames_when_it_compiles(bench: Bench) -> None:
    """An If on a constant is inlined, and its output has the name of the branch's tensor too."""
    branches = {}
    for name, kind in (("then_branch", "Relu"), ("else_branch", "Abs")):
        inner = helper.make_tensor_value_info("B_inner", TensorProto.FLOAT, ["N", 4])
        body = [helper.make_node(kind, ["m"], ["B_inner"], f"{name}_{kind}")]
        branches[name] = helper.make_graph(body, name, [], [inner])
    nodes = [
        helper.make_node("Neg", ["x"], ["m"]),
        helper.make_node("If", ["yes"], ["y"], "if", **branches),
    ]
    model = make(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"yes": np.array(True)})
    built, _ = bench.run("compile-openvino", model=bench.model(model))
    assert prove(bench, model, built, "openvino").broken == ()


def test_rows_that_run_one_after_another_are_not_run_again(bench: Bench) -> None:
    """Simulators take minutes for a large image."""
    out, _ = bench.run("compile-openvino", params={"device": "NPU"}, model=bench.model(cnn()))
    runner = _runtimes.load(out, "openvino-rows")
    assert runner.by_rows
    samples = _data.check({"x": np.zeros((4, 3, 16, 16), np.float32)}, runner.inputs, "rows")
    alone = _answers.run_all(runner, samples)
    runner.run = None  # type: ignore[method-assign]
    assert _batch.why_not(runner, samples, alone) == ""


def test_random_rows_are_of_values_that_leave_numbers(bench: Bench) -> None:
    """A mask of 2 to 7 makes 1 - mask times a huge number infinite, and the softmax NaN."""
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "m"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "least"], ["bias"]),
        helper.make_node("Add", ["x", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"]),
    ]
    least = np.finfo(np.float32).min
    model = make(
        nodes,
        {"x": ["n", 8], "mask": ["n", 8]},
        {"y": ["n", 8]},
        {"one": np.float32(1), "least": least},
    )
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    reference, facts = bench.run("reference", model=bench.model(model))
    assert facts.origin == "generated"
    answers, _ = _answers.read(reference)
    assert not any(np.isnan(array).all() for array in answers["y"])
