#!/bin/sh
# NNCF, OpenVINO: int8 of a net of MatMuls for CPUs without VNNI, as most before 2020 are.
# Guess: the default, OverflowFix.FIRST_LAYER, takes care of what overflows there.
# Really: for such a net it does what DISABLE does. Weights use all 8 bits, sums of two
# products saturate in 16, and the answer is off by 39 %; with VNNI all is well, so the machine that
# built it never shows it. OverflowFix.ENABLE, 7 bits, is right on both. (Here oneDNN is told to use
# AVX2 and no more, on a machine that has VNNI.)
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
grep -qE '^flags.* (avx512_vnni|avx_vnni)' /proc/cpuinfo || { echo "no VNNI here"; exit 2; }
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    nncf==3.4.0 onnx==1.23.2 openvino==2026.4.1 numpy==1.26.4 || exit 2
cat >errors.py <<'PY'
import sys
import numpy as np, openvino as ov

core = ov.Core()
x = np.load("x.npy")


def answers(path):
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(path, "CPU", f32)
    return np.concatenate([compiled(row[None])[0] for row in x])


wanted = answers("model.onnx")
for path in sys.argv[1:]:
    print(float(np.abs(answers(path) - wanted).max() / np.abs(wanted).max()))
PY
venv/bin/python - <<'PY'
import os, subprocess, sys
import numpy as np, onnx, openvino as ov
import nncf
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weights = (0.5 + 0.5 * rng.random((64, 64))).astype(np.float32)
x = rng.random((32, 64)).astype(np.float32)
np.save("x.npy", x)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
     helper.make_node("MatMul", ["b", "v"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
    [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(weights.T / 64, "v")],
)
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "model.onnx")
nncf.set_log_level(40)  # errors alone
fixes = {"default": None, "DISABLE": nncf.OverflowFix.DISABLE, "ENABLE": nncf.OverflowFix.ENABLE}
for name, fix in fixes.items():
    more = nncf.AdvancedQuantizationParameters(overflow_fix=fix) if fix else None
    data = nncf.Dataset([{"x": row[None]} for row in x])
    model = nncf.quantize(ov.Core().read_model("model.onnx"), data, subset_size=32,
                          advanced_parameters=more)
    ov.save_model(model, f"{name}.xml", compress_to_fp16=False)
print("nncf", nncf.__version__, "openvino", ov.__version__)
seen = {}
for cpu, limit in (("with VNNI", {}), ("without", {"ONEDNN_MAX_CPU_ISA": "AVX2"})):
    command = [sys.executable, "errors.py", *(f"{name}.xml" for name in fixes)]
    done = subprocess.run(command, env=os.environ | limit, check=True, capture_output=True)
    for name, error in zip(fixes, map(float, done.stdout.split())):
        print(f"{cpu}, {name}: off by {100 * error:.1f} %")
        seen[cpu, name] = error
right = all(seen["with VNNI", name] < 0.15 for name in fixes) and seen["without", "ENABLE"] < 0.15
sys.exit(not (right and min(seen["without", "default"], seen["without", "DISABLE"]) > 0.3))
PY
