#!/bin/sh
# ONNX Runtime, CPU: weights stored in 8 or 4 bits behind a DequantizeLinear, read by a MatMul.
# Guess: only weights are rounded; the product is computed in fp32, as the graph says. Behind a pair
# of 16-bit QuantizeLinear and DequantizeLinear activations have 16 bits.
# Really: the default optimizations join both to MatMulNBits with accuracy level 4, which rounds the
# activations to 8 bits, block by block: errors of half a percent of the norm, also behind the 16-bit
# pair. Without these optimizations, or with `session.qdq_matmulnbits_accuracy_level` 1, it is fp32.
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
from onnx import TensorProto as T, helper as h, numpy_helper as nh

random = np.random.default_rng(0)
weights = random.normal(size=(64, 48)).astype(np.float32)
x = random.normal(size=(5, 64)).astype(np.float32)
scale = (np.abs(weights).max(axis=0) / 127).astype(np.float32)
integers = np.rint(weights / scale).astype(np.int8)
step = np.float32(np.abs(x).max() / 32767)


def model(in_16_bits):
    nodes, read = [], "x"
    stored = [nh.from_array(integers, "q"), nh.from_array(scale, "s")]
    if in_16_bits:
        stored += [nh.from_array(step, "xs"), nh.from_array(np.array(32768, np.uint16), "xz")]
        nodes = [h.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
                 h.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"])]
        read = "xd"
    nodes += [h.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=1),
              h.make_node("MatMul", [read, "w"], ["y"])]
    graph = h.make_graph(
        nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, ["n", 64])],
        [h.make_tensor_value_info("y", T.FLOAT, ["n", 48])], stored)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def answer(in_16_bits, level):
    options = ort.SessionOptions()
    if level:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
    session = ort.InferenceSession(model(in_16_bits), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


print("onnxruntime", ort.__version__)
read = {False: x, True: np.rint(x / step) * step}
found = []
for in_16_bits in (False, True):
    wanted = read[in_16_bits] @ (integers * scale)
    for level in ("", "1"):
        off = np.linalg.norm(answer(in_16_bits, level) - wanted) / np.linalg.norm(wanted)
        found.append(off > 1e-3)
        said = f"accuracy level {level}" if level else "by default"
        print(f"{'16-bit' if in_16_bits else 'fp32'} activations, {said}: off by {off:.1e}")
sys.exit(found != [True, False, True, False])
PY
