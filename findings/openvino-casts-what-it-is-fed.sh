#!/bin/sh
# OpenVINO, Python: arrays of another type than the model's input has.
# Guess: a call with them is refused, as ONNX Runtime refuses it, or at least loses nothing.
# Really: they are cast without a word. For an int32 input 1.7 becomes 1, and 2**33 + 3 becomes 3;
# for a float32 input 16,777,217 becomes 16,777,216. A caller who mixes up two inputs, or forgets
# to scale, gets answers. Another shape is refused.
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


def answers(kind, x):
    """The answers of ONNX Runtime and of OpenVINO; None for one that refuses."""
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", kind, [2])],
        [helper.make_tensor_value_info("y", kind, [2])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
    session = ort.InferenceSession("model.onnx")
    compiled = ov.Core().compile_model("model.onnx", "CPU")
    seen = []
    for run in (lambda: session.run(None, {"x": x})[0], lambda: compiled({"x": x})[0]):
        try:
            seen.append(run().tolist())
        except Exception:
            seen.append(None)
    print(f"{TensorProto.DataType.Name(kind)} fed {x} of {x.dtype}: "
          f"ONNX Runtime {seen[0]}, OpenVINO {seen[1]}")
    return seen


print("onnxruntime", ort.__version__, "openvino", ov.__version__)
whole, real = TensorProto.INT32, TensorProto.FLOAT
fits = answers(whole, np.array([1, 2], np.int32))
shape = answers(whole, np.array([1, 2, 3], np.int32))
cast = [answers(whole, np.array([1.7, -2.9])), answers(whole, np.array([2**33 + 3, 1])),
        answers(real, np.array([2**24 + 1, 1]))]
right = fits == [[-1, -2]] * 2 and shape == [None, None]
wanted = [[None, [-1, 2]], [None, [-3, -1]], [None, [-(2**24), -1]]]
sys.exit(not (right and cast == wanted))
PY
