#!/bin/sh
# ONNX Runtime: per-channel int8 of a MatMul whose weight has three axes [batch, k, n].
# Guess: per_channel=True gives a scale to each output column, n of them, as it does for [k, n].
# Really: it gives one to each row of k, the axis that is summed over, without a word. Columns whose
# weights are small lose as much as with one scale for all, and no kernel of int8 can fuse it.
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
k, n = 8, 5
x = rng.normal(size=(2, 4, k)).astype(np.float32)


class Rows(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": x}])

    def get_next(self):
        return next(self.batches, None)


def scales(*shape):
    """How many scales the weight of one MatMul gets, and the axis that they lie along."""
    weights = (rng.normal(size=shape) * np.logspace(-1, 1, n)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4, n])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
    quantize_static("model.onnx", "int8.onnx", Rows(), per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    made = onnx.load("int8.onnx").graph
    count = next(list(t.dims) for t in made.initializer if t.name == "w_scale")
    axis = next(a.i for node in made.node if "w_scale" in node.input for a in node.attribute)
    return count, axis


print("onnxruntime", ort.__version__)
flat, batched = scales(k, n), scales(2, k, n)
print(f"weight [{k}, {n}]: scales {flat[0]} along axis {flat[1]}")
print(f"weight [2, {k}, {n}]: scales {batched[0]} along axis {batched[1]}")
sys.exit(not (flat == ([n], 1) and batched == ([k], 1)))
PY
