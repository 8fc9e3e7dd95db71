#!/bin/sh
# ONNX Runtime's quantizer of QDQ models: weights in 4 bits, symmetric.
# Guess: as with 8 bits, the largest weight of a channel falls on the largest integer (7 of -8 to 7).
# Really: the scale is that of 15 steps between -max and max, so the largest falls on 7.5, and where
# it is positive it is cut to 7: an error of half a step in the weight that matters most.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType

weights = np.array([[1.0, -1.0], [0.5, 0.5]], np.float32)  # [inputs, outputs]


def scales(kind):
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["y"], "product")], "g",
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 2])],
        [h.make_tensor_value_info("y", T.FLOAT, ["n", 2])], [nh.from_array(weights, "w")])
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    one = TensorData(lowest=np.float32(-1), highest=np.float32(1))
    quantizer = QDQQuantizer(
        made, True, False, kind, QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, {"x": one, "y": one}),
        ["product"], [], ["MatMul"], {"WeightSymmetric": True})
    quantizer.quantize_model()
    stored = {t.name: nh.to_array(t) for t in quantizer.model.model.graph.initializer}
    return stored["w_scale"], stored["w_quantized"].astype(np.float32)


print("onnxruntime", onnxruntime.__version__)
found = {}
for kind, most in ((QuantType.QInt8, 127), (QuantType.QInt4, 7)):
    scale, integers = scales(kind)
    found[most] = 1 / float(scale[0])
    print(f"{kind}: the largest weight is {found[most]:.1f} steps, stored as {integers[0, 0]:.0f}, "
          f"and comes back as {integers[0, 0] * scale[0]:.3f}")
sys.exit(not (abs(found[127] - 127) < 0.01 and abs(found[7] - 7.5) < 0.01))
PY
