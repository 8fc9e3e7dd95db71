#!/bin/sh
# ONNX Runtime: a weight that two nodes share (a tied autoencoder), int8 with a scale per channel.
# Guess: graph optimization of a QDQ model never changes its answers by more than rounding.
# Really: one DequantizeLinear feeds a Gemm with transB and a MatMul, whose output channels lie
# along different axes of the weight. The model as written is right; fused to kernels of int8, the
# scales of one axis are applied along the other for one of the two.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 16)).astype(np.float32)
spread = np.logspace(-1, 0.5, 16)[:, None]
weights = (rng.normal(0, 0.3, (16, 16)) * spread).astype(np.float32)


class Rows(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": x}])

    def get_next(self):
        return next(self.batches, None)


def cosine(level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    got = ort.InferenceSession("int8.onnx", options).run(None, {"x": x})[0]
    return float((got * wanted).sum() / np.sqrt((got * got).sum() * (wanted * wanted).sum()))


graph = helper.make_graph(
    [
        helper.make_node("Gemm", ["x", "w"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["code"]),
        helper.make_node("MatMul", ["code", "w"], ["y"]),
    ],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
    [numpy_helper.from_array(weights, "w")],
)
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
wanted = ort.InferenceSession("model.onnx").run(None, {"x": x})[0]
quantize_static("model.onnx", "int8.onnx", Rows(), per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
print("onnxruntime", ort.__version__)
plain = cosine(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
fused = cosine(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
print(f"cosine to fp32: {plain:.4f} without graph optimization, {fused:.4f} with all of it")
sys.exit(not (plain > 0.999 and fused < 0.97))
PY
