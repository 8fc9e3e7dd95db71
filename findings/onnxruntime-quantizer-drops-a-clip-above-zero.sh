#!/bin/sh
# ONNX Runtime: `quantize_static` (QDQ) of a Clip whose range does not hold 0, such as 1 to 6.
# Guess: the quantizer drops a Relu or a Clip behind which it puts a QuantizeLinear, because the
# range of the scale does the same; where it does not, the Clip stays.
# Really: every range of a scale holds 0, since 0 must be exact, and the Clip is dropped all the
# same. What was never below 1 goes down to 0: a divisor, or a lower bound of boxes.
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
x = rng.normal(size=(64, 8)).astype(np.float32)
weights = rng.normal(size=(8, 8)).astype(np.float32)


class Rows(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": x}])

    def get_next(self):
        return next(self.batches, None)


def bounds(path):
    answer = ort.InferenceSession(path).run(None, {"x": x})[0]
    return float(answer.min()), float(answer.max())


def quantized(low, high):
    """The smallest answer before and after, and the number of Clips that are left."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]),
         helper.make_node("Clip", ["m", "low", "high"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(low), "low"),
         numpy_helper.from_array(np.float32(high), "high")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
    quantize_static("model.onnx", "int8.onnx", Rows())
    clips = sum(node.op_type == "Clip" for node in onnx.load("int8.onnx").graph.node)
    before, after = bounds("model.onnx"), bounds("int8.onnx")
    print(f"Clip {low} to {high}: fp32 {before[0]:.2f} to {before[1]:.2f}, "
          f"int8 {after[0]:.2f} to {after[1]:.2f}, {clips} Clips left")
    return before[0], after[0], clips


print("onnxruntime", ort.__version__)
sys.exit([quantized(0, 6), quantized(1, 6)] != [(0, 0, 0), (1, 0, 0)])
PY
