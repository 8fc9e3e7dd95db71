#!/bin/sh
# OpenVINO, CPU: a MatMul whose weights are stored in 8 bits, compiled for fp32.
# Guess: with INFERENCE_PRECISION_HINT f32 what it reads stays in fp32: only weights were compressed.
# And a DYNAMIC_QUANTIZATION_GROUP_SIZE of the largest number means one scale for a whole row.
# Really: unless told otherwise it rounds what the product reads to 8 bits, 32 values at a time, on
# CPUs that have products of bytes: errors above one percent. Group size 0, which an IR may carry in
# rt_info runtime_options, forbids it; and so does the largest number, which rounds nothing at all.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    openvino==2026.4.1 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, openvino as ov
from openvino import opset13 as op

random = np.random.default_rng(0)
weights = random.normal(size=(256, 256)).astype(np.float32)
x = random.normal(size=(16, 256)).astype(np.float32)
x[:, 3] *= 40
scale = np.abs(weights).max(axis=1, keepdims=True) / 127
integers = np.rint(weights / scale).astype(np.int8)


def model():
    rows = op.parameter([-1, 256], np.float32)
    wide = op.convert(op.constant(integers), np.float32)
    product = op.matmul(rows, op.multiply(wide, op.constant(scale)), False, True)
    return ov.Model([op.result(product)], [rows], "product")


def off(config, carried=None):
    made = model()
    if carried is not None:
        made.set_rt_info(carried, ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    compiled = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **config})
    wanted = x @ (integers * scale).T
    return float(np.linalg.norm(compiled(x)[0] - wanted) / np.linalg.norm(wanted))


print("openvino", ov.__version__)
key = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
found = {
    "by default": off({}),
    "group size 32": off({key: "32"}),
    "group size 0": off({key: "0"}),
    "group size of the largest number": off({key: str(2**64 - 1)}),
    "0 in the model": off({}, "0"),
}
for name, error in found.items():
    print(f"{name}: off by {error:.1e}")
if found["group size 32"] < 1e-3:
    print("this CPU has no products of bytes: nothing to see")
    sys.exit(2)
sys.exit([error > 1e-3 for error in found.values()] != [True, True, False, False, False])
PY
