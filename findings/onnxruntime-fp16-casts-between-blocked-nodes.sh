#!/bin/sh
# ONNX Runtime: `convert_float_to_float16` (onnxruntime.transformers) with a node_block_list.
# Guess: nodes that are blocked because their values do not fit into fp16 stay fp32 together, with
# casts around them.
# Really: each gets casts of its own, and between two blocked neighbours the tensor goes through
# fp16 and back. What is too large for it, here exp(12), is infinite in the middle of the block.
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
from onnxruntime.transformers.float16 import convert_float_to_float16

graph = helper.make_graph(
    [helper.make_node("Mul", ["x", "twenty"], ["a"], name="mul"),
     helper.make_node("Exp", ["a"], ["b"], name="exp"),
     helper.make_node("Log", ["b"], ["c"], name="log"),
     helper.make_node("Sqrt", ["c"], ["y"], name="sqrt")], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    [numpy_helper.from_array(np.float32(20), "twenty")],
)
opset = [helper.make_opsetid("", 17)]
model = helper.make_model(graph, opset_imports=opset, ir_version=8)
onnx.checker.check_model(model, full_check=True)
half = convert_float_to_float16(
    onnx.shape_inference.infer_shapes(model), keep_io_types=True, node_block_list=["exp", "log"]
)
x = np.array([0.1, 0.3, 0.6], np.float32)
wanted, got = (
    ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, half)
)
source = {output: node for node in half.graph.node for output in node.output}
log = next(node for node in half.graph.node if node.name == "log")
chain = [log]
while chain[-1].name != "exp":
    chain.append(source[chain[-1].input[0]])
names = [node.op_type for node in reversed(chain)]
print("onnxruntime", ort.__version__)
print("x", x, "fp32", wanted, "blocked", got)
print("from exp to log:", " -> ".join(names))
right = np.allclose(wanted, np.sqrt(20 * x)) and np.allclose(wanted[:2], got[:2], rtol=0.01)
sys.exit(not (right and names == ["Exp", "Cast", "Cast", "Log"] and np.isinf(got[2])))
PY
