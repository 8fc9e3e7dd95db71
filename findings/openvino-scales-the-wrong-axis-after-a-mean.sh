#!/bin/sh
# OpenVINO, CPU: a mean over an axis, a factor per channel, a FakeQuantize.
# Guess: whether a reduction keeps its axis as 1 or drops it is a matter of taste.
# Really: where it drops the axis, the factors are applied along the wrong one, and the answer is
# wrong by half, in f32. (Nets of that form come from NNCF, and from QDQ models of classifiers that
# end in a mean over tokens.) With the axis kept, and with no FakeQuantize, all is right.
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

x = np.random.default_rng(0).uniform(size=(2, 7, 8)).astype(np.float32)
factors = np.linspace(0.1, 4, 8, dtype=np.float32)
LOW, HIGH = np.float32(-4), np.float32(4)


def answer(keep, quantized):
    rows = op.parameter(x.shape, np.float32)
    mean = op.reduce_mean(rows, op.constant(np.array([1])), keep_dims=keep)
    scaled = op.multiply(mean, op.constant(factors.reshape(1, 1, 8) if keep else factors))
    if quantized:
        scaled = op.fake_quantize(scaled, LOW, HIGH, LOW, HIGH, 256)
    model = ov.Model([op.result(scaled)], [rows], "mean")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(x)[0].reshape(2, 8)


print("openvino", ov.__version__)
wanted = x.mean(axis=1) * factors
errors = {}
for quantized in (False, True):
    for keep in (True, False):
        got = answer(keep, quantized)
        errors[keep, quantized] = np.abs(got - wanted).max()
        print(f"keep_dims={keep}, FakeQuantize {quantized}: off by {errors[keep, quantized]:.3f}"
              f" of {wanted.max():.3f}")
step = (HIGH - LOW) / 255
wrong = errors.pop((False, True))
sys.exit(not (wrong > 1 and max(errors.values()) <= step))
PY
