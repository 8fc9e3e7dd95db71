#!/bin/sh
# ONNX Runtime, CPU: Resize with tf_crop_and_resize, which cuts out a region and scales it.
# Guess: the region decides what is seen, whatever its size; ONNX's reference does that.
# Really: where the output is as large as the input, nothing is cut: the input is copied. A detector
# that looks again at a part of its picture at full size looks at the whole one.
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
from onnx.reference import ReferenceEvaluator

x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 1, 4)
region = np.array([0, 0, 0, 0.5, 1, 1, 1, 1], np.float32)  # the right half


def answers(width):
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "region", "", "sizes"], ["y"], mode="linear",
                          coordinate_transformation_mode="tf_crop_and_resize")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, width])],
        [numpy_helper.from_array(region, "region"),
         numpy_helper.from_array(np.array([1, 1, 1, width]), "sizes")],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    wanted = ReferenceEvaluator(model).run(None, {"x": x})[0].ravel()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    got = session.run(None, {"x": x})[0].ravel()
    print(f"right half of {x.ravel()} as {width}: reference {wanted}, ONNX Runtime {got}")
    return bool(np.allclose(wanted, got)), bool(np.array_equal(got, x.ravel()))


print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
sys.exit([answers(width) for width in (3, 4, 5)] != [(True, False), (False, True), (True, False)])
PY
