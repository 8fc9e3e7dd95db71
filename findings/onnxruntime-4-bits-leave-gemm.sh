#!/bin/sh
# ONNX Runtime: `MatMulNBitsQuantizer`, the quantizer of weights to 4 bits.
# Guess: it packs the weights of fully connected layers, also where an exporter wrote them as Gemm
# (as PyTorch's does for every Linear with a bias), or says that it did not.
# Really: it touches MatMul alone. A net of Gemms comes back as it was, and no error is raised.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4 onnx-ir==1.1.0 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

weights = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)


def model(operator):
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 256])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


print("onnxruntime", onnxruntime.__version__)
found = {}
for operator in ("MatMul", "Gemm"):
    quantizer = MatMulNBitsQuantizer(model(operator), block_size=32, is_symmetric=True)
    quantizer.process()
    made = quantizer.model.model
    found[operator] = [node.op_type for node in made.graph.node]
    size = model(operator).ByteSize()
    print(f"{operator}: {size} B -> {made.ByteSize()} B, now {', '.join(found[operator])}")
sys.exit(found != {"MatMul": ["MatMulNBits"], "Gemm": ["Gemm"]})
PY
