#!/bin/sh
# OpenVINO: Resize of ONNX with antialias, keep_aspect_ratio_policy or exclude_outside.
# Guess: an attribute that changes the answer is heeded, or the model is refused, as it is for the
# mode tf_crop_and_resize.
# Really: these three are read over. Pictures that are made smaller alias, and pictures that should
# keep their proportions are stretched, which gives an answer of another shape. No error is raised.
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
from onnx.reference import ReferenceEvaluator


def answers(x, size, **attributes):
    sizes = numpy_helper.from_array(np.array([1, 1, *size]), "sizes")
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "h", "w"])], [sizes],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    wanted = ReferenceEvaluator(model).run(None, {"x": x})[0]
    other = ort.InferenceSession("model.onnx").run(None, {"x": x})[0]
    got = ov.Core().compile_model("model.onnx", "CPU")(x)[0]
    for name, answer in (("reference", wanted), ("ONNX Runtime", other), ("OpenVINO", got)):
        print(f"  {name}: {list(answer.shape)} {answer.ravel().round(3).tolist()}")
    return [a.shape == wanted.shape and np.allclose(a, wanted, atol=1e-4) for a in (other, got)]


print("onnx", onnx.__version__, "onnxruntime", ort.__version__, "openvino", ov.__version__)
line = np.array([0, 0, 0, 8, 0, 0, 0, 8], np.float32).reshape(1, 1, 1, 8)
tile = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
seen = []
for what, x, size, plain, more in (
    ("linear, antialias", line, (1, 2), {"mode": "linear"}, {"antialias": 1}),
    ("nearest, not_larger", tile, (4, 4), {"mode": "nearest"},
     {"keep_aspect_ratio_policy": "not_larger"}),
    ("cubic, exclude_outside", line, (1, 4), {"mode": "cubic"}, {"exclude_outside": 1}),
):
    print(f"{what}, without and with it:")
    seen.append((answers(x, size, **plain), answers(x, size, **plain, **more)))
sys.exit(seen != [([True, True], [True, False])] * 3)
PY
