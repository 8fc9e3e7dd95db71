#!/bin/sh
# ONNX Runtime, CPU: the largest value of a row that holds a NaN, by ReduceMax, and its place.
# Guess: NaN, as with numpy and ONNX's reference, and as with its own Max of two tensors.
# Really: ReduceMax is NaN where the NaN stands first, and passes over it elsewhere, as ArgMax does.
# So whether a damaged row shows depends on where the damage is.
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
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def answers(operator, values, type_=TensorProto.FLOAT, inputs="x", shape=(1, 1, 1), **attributes):
    feed = {name: np.array(values, np.float32).reshape(1, 1, 3) for name in inputs}
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), ["y"], **attributes)], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 3]) for name in inputs],
        [helper.make_tensor_value_info("y", type_, shape)],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    wanted = ReferenceEvaluator(model).run(None, feed)[0].ravel()
    got = ort.InferenceSession(model.SerializeToString()).run(None, feed)[0].ravel()
    print(f"{operator} of {values}: reference {wanted}, ONNX Runtime {got}")
    return bool(np.array_equal(wanted, got, equal_nan=True))


nan = float("nan")
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
same = [
    answers("ReduceMax", [3, 1, 2], axes=[2]),
    answers("ReduceMax", [nan, 1, 3], axes=[2]),
    answers("Max", [1, nan, 3], inputs=["x", "z"], shape=(1, 1, 3)),
    answers("ReduceSum", [1, nan, 3], shape=(1, 1, 1)),
]
other = [
    answers("ReduceMax", [3, nan, 1], axes=[2]),
    answers("ReduceMax", [1, 3, nan], axes=[2]),
    answers("ArgMax", [3, nan, 1], TensorProto.INT64, axis=2),
]
sys.exit(not all(same) or any(other))
PY
