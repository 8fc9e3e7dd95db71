#!/bin/sh
# ONNX Runtime: `quantize_static` of a Gemm whose beta is not 1.
# Guess: attributes of a node survive its quantization, or the quantizer refuses.
# Really: the bias loses its factor beta. With QDQ the answer depends on the level of graph
# optimization, too: the fused kernel drops beta in another way than the single nodes do.
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
from onnxruntime.quantization import CalibrationDataReader, quantize_static

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 16)).astype(np.float32)
weights = rng.normal(0, 0.3, (16, 16)).astype(np.float32)
bias = rng.normal(size=16).astype(np.float32)
ALL, NONE = ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL


class Rows(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": x}])

    def get_next(self):
        return next(self.batches, None)


def answer(path, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    return ort.InferenceSession(path, options).run(None, {"x": x})[0]


def worst(beta, level):
    """The largest difference of int8 to fp32, in parts of the largest answer."""
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, beta=beta)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
    quantize_static("model.onnx", "int8.onnx", Rows())
    wanted = answer("model.onnx", ALL)
    return np.abs(answer("int8.onnx", level) - wanted).max() / np.abs(wanted).max()


print("onnxruntime", ort.__version__)
errors = {(beta, level): worst(beta, level) for beta in (1.0, 3.0) for level in (NONE, ALL)}
for (beta, level), error in errors.items():
    print(f"beta {beta}, {level.name}: off by {100 * error:.1f} %")
right = all(errors[1.0, level] < 0.03 for level in (NONE, ALL))
wrong = all(errors[3.0, level] > 0.3 for level in (NONE, ALL))
sys.exit(not (right and wrong))
PY
