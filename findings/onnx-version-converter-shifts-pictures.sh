#!/bin/sh
# onnx: `version_converter` from opsets 9 and 10 to 13, of linear Upsample and Resize.
# Guess: a conversion keeps the meaning of a model.
# Really: the old operators compute coordinates as x / scale ("asymmetric"); Resize from opset 11
# has an attribute for that whose default is another rule, "half_pixel", and the converter does not
# write it. The checker passes both, and pictures are shifted by half a pixel.
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
from onnx import TensorProto, helper, numpy_helper, version_converter

x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def model(operator, opset):
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "scales"], ["y"], mode="linear")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 8, 8])],
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=5)


def answer(made):
    onnx.checker.check_model(made)
    return ort.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]


print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
differences = []
for operator, opset in (("Upsample", 9), ("Resize", 10)):
    old = model(operator, opset)
    new = version_converter.convert_version(old, 13)
    rules = [a.name for n in new.graph.node for a in n.attribute if n.op_type == "Resize"]
    before, after = answer(old)[0, 0, 0], answer(new)[0, 0, 0]
    print(f"{operator}-{opset} -> Resize-13 with the attributes {rules}")
    print(f"  first row before {before}\n  first row after  {after}")
    differences.append(np.abs(before - after).max())
sys.exit(bool(min(differences) < 0.2))
PY
