"""What the tables refuse is what the runtimes here get wrong: a change calls for another look."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from repo_builder import targets
from repo_builder.targets import support
from repo_builder.targets.types import WeightType

X = np.random.default_rng(0).normal(0, 1, (5, 64)).astype(np.float32)
W = np.random.default_rng(1).normal(0, 1, (64, 48)).astype(np.float32)
STEP = np.float32(np.abs(X).max() / 32767)


def product(kind: int, most: int) -> tuple[onnx.ModelProto, Any]:
    """A MatMul of 16-bit activations and weights of `kind`, and its answer in numpy."""
    scale = (np.abs(W).max(axis=0) / most).astype(np.float32)
    integers = np.rint(W / scale).astype(np.int8)
    stored = [
        helper.make_tensor("q", kind, W.shape, integers.reshape(-1).tolist()),
        numpy_helper.from_array(scale, "s"),
        numpy_helper.from_array(np.array(STEP), "xs"),
        numpy_helper.from_array(np.array(32768, np.uint16), "xz"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=1),
        helper.make_node("MatMul", ["xd", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 48])],
        stored,
    )
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model, (np.rint(X / STEP) * STEP) @ (integers * scale)


def off(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("kind", "most"), [(TensorProto.INT8, 127), (TensorProto.INT4, 7)])
def test_sixteen_bits_are_eight_on_cpus(kind: int, most: int) -> None:
    model, expected = product(kind, most)
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    assert off(session.run(None, {"x": X})[0], expected) > 1e-3
    weights: WeightType = "int8" if most == 127 else "int4"
    known = targets.load()
    assert support.combination(known["cpu"], weights, "int16").why_not
    openvino = pytest.importorskip("openvino")
    read = openvino.Core().read_model(model.SerializeToString())
    compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert off(compiled(X)[0], expected) > 1e-3
    assert support.combination(known["cpu-openvino"], weights, "int16").why_not
