#!/bin/sh
# onnxslim: a Squeeze without axes behind an input whose first dimension is dynamic, [n, 1, 4].
# Guess: n may be 1, and is then squeezed as well, so nothing is known about the rank there, and
# the graph keeps what computes it. onnx's own shape inference leaves it open.
# Really: it writes [n, 4] there, and folds what depends on the rank into a constant. For n = 1 the
# slimmed model answers otherwise.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 onnxslim==0.1.98 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnxruntime as ort, onnxslim
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("Squeeze", ["x"], ["s"]), helper.make_node("Shape", ["s"], ["shape"]),
     helper.make_node("Shape", ["shape"], ["rank"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4])],
    [helper.make_tensor_value_info("rank", TensorProto.INT64, [1])],
)
opset = [helper.make_opsetid("", 17)]
model = helper.make_model(graph, opset_imports=opset, ir_version=8)
onnx.checker.check_model(model, full_check=True)
slimmed = onnxslim.slim(onnx.ModelProto.FromString(model.SerializeToString()))


def rank(which, n):
    x = np.zeros((n, 1, 4), np.float32)
    return int(ort.InferenceSession(which.SerializeToString()).run(None, {"x": x})[0][0])


print("onnxslim", onnxslim.__version__, "onnxruntime", ort.__version__)
seen = [(n, rank(model, n), rank(slimmed, n)) for n in (3, 1)]
for n, before, after in seen:
    print(f"n = {n}: rank {before}, slimmed {after}")
sys.exit(seen != [(3, 2, 2), (1, 1, 2)])
PY
