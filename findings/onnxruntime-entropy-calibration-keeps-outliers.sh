#!/bin/sh
# ONNX Runtime: `quantize_static` with CalibrationMethod.Entropy.
# Guess: calibration by KL divergence cuts off a lone outlier, which is what it is for.
# Really: it collects histograms of 128 bins and looks for the best 128 of them, so the range is
# always the whole one, as with MinMax. There is no argument for the number of bins; the
# calibrator itself takes one, and with 2,048 it does its work.
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
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization import quantize_static
from onnxruntime.quantization.calibrate import create_calibrator

weights = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 16])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 8])],
    [numpy_helper.from_array(weights, "w")],
)
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "model.onnx")


class Rows(CalibrationDataReader):
    """102,400 normal values, one of them replaced by 60."""

    def __init__(self):
        rows = np.random.default_rng(1).normal(size=(64, 100, 16)).astype(np.float32)
        rows[0, 0, 0] = 60
        self.batches = iter([{"x": batch} for batch in rows])

    def get_next(self):
        return next(self.batches, None)


def scale(method):
    quantize_static("model.onnx", "int8.onnx", Rows(), calibrate_method=method,
                    activation_type=QuantType.QInt8)
    initializers = onnx.load("int8.onnx").graph.initializer
    return next(float(numpy_helper.to_array(t)) for t in initializers if t.name == "x_scale")


def upper(bins):
    calibrator = create_calibrator("model.onnx", calibrate_method=CalibrationMethod.Entropy,
                                   augmented_model_path="augmented.onnx",
                                   extra_options={"num_bins": bins})
    calibrator.collect_data(Rows())
    return float(calibrator.compute_data().data["x"].range_value[1])


print("onnxruntime", onnxruntime.__version__)
minmax, entropy = scale(CalibrationMethod.MinMax), scale(CalibrationMethod.Entropy)
print(f"scale of x: MinMax {minmax:.6f}, Entropy {entropy:.6f}")
coarse, fine = upper(128), upper(2048)
print(f"upper end of x by the calibrator: {coarse:.2f} of 128 bins, {fine:.2f} of 2,048")
sys.exit(not (minmax == entropy and coarse == 60 and fine < 10))
PY
