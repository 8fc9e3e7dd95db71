#!/bin/sh
# OpenVINO, CPU: arithmetic of int64 (indices, timestamps, hashes of categories).
# Guess: a model whose tensors are int64 is computed in 64 bits, as ONNX Runtime does.
# Really: inside it is int32. Inputs are cut to their low 32 bits and results wrap, without an
# error, and the output is declared int64 all the same. Random small inputs never show it.
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
from onnx import TensorProto, helper


def answers(operator, a, b, kind):
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["y"])], "g",
        [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in "ab"],
        [helper.make_tensor_value_info("y", kind, [1])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "model.onnx")
    feed = {"a": np.array([a], np.int64), "b": np.array([b], np.int64)}
    wanted = ort.InferenceSession("model.onnx").run(None, feed)[0]
    got = ov.Core().compile_model("model.onnx", "CPU")(feed)[0]
    print(f"{operator}({a}, {b}): ONNX Runtime {wanted[0]}, OpenVINO {got[0]} ({got.dtype})")
    return wanted[0] == got[0]


print("onnxruntime", ort.__version__, "openvino", ov.__version__)
small = answers("Mul", 1000, 1000, TensorProto.INT64)
large = [
    answers("Mul", 100_000, 100_000, TensorProto.INT64),
    answers("Add", 2**31 - 1, 1, TensorProto.INT64),
    answers("Greater", 2**40, 5, TensorProto.BOOL),
]
sys.exit(not small or any(large))
PY
