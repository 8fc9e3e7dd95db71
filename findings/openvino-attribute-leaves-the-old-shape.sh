#!/bin/sh
# OpenVINO: changing an attribute of an operation in a graph, here keep_dims of a reduction.
# Guess: set_attribute() changes the operation, so its output has the new shape from then on.
# Really: the attribute reads as changed, the output keeps its old shape until
# constructor_validate_and_infer_types() is called. What is built on it before then (a Squeeze, to
# restore the rank) fails, or squeezes another axis that happens to have size 1.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check openvino==2026.4.1 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, openvino
import openvino.opset13 as ops

data = ops.parameter([2, 3, 4], np.float32)
mean = ops.reduce_mean(data, np.array([1]), keep_dims=False)
before = list(mean.output(0).shape)
mean.set_attribute("keep_dims", True)
changed = mean.get_attributes()["keep_dims"]
after = list(mean.output(0).shape)
mean.constructor_validate_and_infer_types()
inferred = list(mean.output(0).shape)
print("openvino", openvino.__version__)
print(f"shape {before}; keep_dims set to {changed}: {after}; inferred anew: {inferred}")
sys.exit(not (changed and before == after == [2, 4] and inferred == [2, 1, 4]))
PY
