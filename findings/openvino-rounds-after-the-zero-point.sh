#!/bin/sh
# OpenVINO, CPU: QuantizeLinear of ONNX with a zero point that is odd.
# Guess: round(x / scale) + zero point, as ONNX says: values in the middle go to the even integer.
# Really: the zero point is added first, so those values go to the other neighbour where it is odd.
# With an even one all agree. Inputs that stand on a grid (bytes / 255, scales that are powers of
# two) have such values everywhere, and a comparison of two runtimes bit by bit fails there.
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

scale = np.float32(0.25)
middle = (np.arange(8) + 0.5).astype(np.float32) * scale
beside = (np.arange(8) + 0.4).astype(np.float32) * scale


def agree(zero, x):
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [8])],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(np.uint8(zero), "zero")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    wanted = np.rint(x / scale) + zero
    other = ort.InferenceSession("model.onnx").run(None, {"x": x})[0]
    got = ov.Core().compile_model("model.onnx", "CPU")(x)[0]
    first = np.rint(x / scale + zero)
    print(f"zero point {zero}, {x[:3] / scale}...: ONNX Runtime {other}, OpenVINO {got}")
    return (other == wanted).all(), int((got == wanted).sum()), (got == first).all()


print("onnxruntime", ort.__version__, "openvino", ov.__version__)
seen = [agree(zero, x) for zero in (128, 127) for x in (beside, middle)]
sys.exit(seen != [(True, 8, True)] * 3 + [(True, 0, True)])
PY
