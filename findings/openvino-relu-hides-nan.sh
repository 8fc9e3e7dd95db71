#!/bin/sh
# OpenVINO, CPU: a NaN in the input, as a broken sensor or a division of 0 by 0 makes it.
# Guess: it goes through to the answer, where one sees it; so it does in ONNX Runtime.
# Really: Relu and Clip make a number of it, in f32 too: max(NaN, 0) is 0 here. The answer of a
# classifier is finite and looks like any other. Sigmoid, Tanh, LeakyRelu and sums keep NaN. Look
# for NaN in what goes in, not in what comes out.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnxruntime as ort, openvino as ov
from onnx import TensorProto, helper, numpy_helper

x = np.array([[np.nan, 1, 2, 3]], np.float32)
weights = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
stored = {"w": weights, "low": np.float32(0), "high": np.float32(6)}


def finite(operator, *more):
    """Whether the answer of a small classifier is finite, in ONNX Runtime and in OpenVINO."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"]),
         helper.make_node(operator, ["a", *more], ["b"]),
         helper.make_node("MatMul", ["b", "w"], ["c"]), helper.make_node("Softmax", ["c"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(stored[name], name) for name in ("w", *more)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
    wanted = ort.InferenceSession("model.onnx").run(None, {"x": x})[0]
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    got = ov.Core().compile_model("model.onnx", "CPU", f32)(x)[0]
    print(f"{operator}: ONNX Runtime {wanted}, OpenVINO {got}")
    return bool(np.isfinite(wanted).all()), bool(np.isfinite(got).all())


print("onnxruntime", ort.__version__, "openvino", ov.__version__)
hides = [finite("Relu"), finite("Clip", "low", "high")]
keeps = [finite("Sigmoid"), finite("Tanh"), finite("LeakyRelu")]
sys.exit((hides, keeps) != ([(False, True)] * 2, [(False, False)] * 3))
PY
