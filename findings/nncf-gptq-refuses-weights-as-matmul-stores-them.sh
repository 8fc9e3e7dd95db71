#!/bin/sh
# NNCF: weights of OpenVINO models in 4 bits, rounded by GPTQ.
# Guess: a product is a product: whether its weights lie as [inputs, outputs], as ONNX's MatMul has
# them, or turned as [outputs, inputs] with transpose_b, as a Linear's, is a matter of storage.
# Really: GPTQ takes only the second; the first ends in "Transpose is not supported", while the
# same call without `gptq` takes both.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    openvino==2026.4.1 nncf==3.4.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import logging
import sys
import numpy as np, nncf, openvino as ov
from openvino import opset13 as op

nncf.set_log_level(logging.ERROR)
random = np.random.default_rng(0)
weights = random.normal(size=(64, 64)).astype(np.float32)
rows = [{"x": random.normal(size=(1, 64)).astype(np.float32)} for _ in range(16)]


def model(turned):
    x = op.parameter([-1, 64], np.float32, name="x")
    x.output(0).set_names({"x"})
    y = x
    for _ in range(2):
        stored = np.ascontiguousarray(weights.T) if turned else weights
        y = op.relu(op.matmul(y, op.constant(stored), False, turned))
    return ov.Model([op.result(y)], [x], "products")


def packed(turned, gptq):
    more = {"dataset": nncf.Dataset(rows), "gptq": True} if gptq else {}
    try:
        made = nncf.compress_weights(
            model(turned), mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=32, ratio=1.0,
            all_layers=True, **more)
    except RuntimeError as failure:
        return f"refused: {failure}"
    kinds = {o.get_element_type().get_type_name() for o in made.get_ordered_ops()}
    return "packed" if "u4" in kinds else "as it was"


print("nncf", nncf.__version__, "openvino", ov.__version__)
found = {}
for turned in (False, True):
    for gptq in (False, True):
        found[turned, gptq] = packed(turned, gptq)
        form = "[outputs, inputs]" if turned else "[inputs, outputs]"
        print(f"{form}, {'GPTQ' if gptq else 'nearest'}: {found[turned, gptq]}")
taken = [said == "packed" for said in found.values()]
sys.exit(taken != [True, False, True, True])
PY
