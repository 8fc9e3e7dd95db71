#!/bin/sh
# OpenVINO, CPU: sums and differences of bytes (uint8 pictures, int8 codes) that leave their range.
# Guess: they wrap, 200 + 100 = 44, as with numpy, ONNX's reference and ONNX Runtime.
# Really: they saturate at the ends of the type, 255, 127 or 0, as values of int8 nets do; int32
# wraps as everywhere. A model that relies on wrapping (codes, counters) answers otherwise.
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
from onnx import helper
from onnx.reference import ReferenceEvaluator


def answers(operator, a, b, kind):
    type_ = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["y"])], "g",
        [helper.make_tensor_value_info(name, type_, [1]) for name in "ab"],
        [helper.make_tensor_value_info("y", type_, [1])],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    feed = {"a": np.array([a], kind), "b": np.array([b], kind)}
    reference = ReferenceEvaluator(model).run(None, feed)[0][0]
    wanted = ort.InferenceSession("model.onnx").run(None, feed)[0][0]
    got = ov.Core().compile_model("model.onnx", "CPU")(feed)[0][0]
    print(f"{operator}({a}, {b}) in {kind}: reference {reference}, ONNX Runtime {wanted}, "
          f"OpenVINO {got}")
    return int(reference), int(wanted), int(got)


print("onnxruntime", ort.__version__, "openvino", ov.__version__)
bytes_ = [answers("Add", 200, 100, "uint8"), answers("Sub", 5, 10, "uint8"),
          answers("Add", 100, 100, "int8")]
words = answers("Add", 2**31 - 1, 1, "int32")
sys.exit((bytes_, words) != ([(44, 44, 255), (251, 251, 0), (-56, -56, 127)], (-(2**31),) * 3))
PY
