#!/bin/sh
# Guess: converting and quantizing a model with OpenVINO and NNCF is a local computation in one process.
# Really: every import, conversion and quantization is reported to a web service, without a question asked, and for
# each event the calling process, whatever it has loaded, is forked: 14 times for one model of one layer. None where
# the package openvino-telemetry, which both install, cannot be imported (nor in CI jobs, by their variables).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    "${PYTHON:-python3.11}" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check numpy==1.26.4 onnx==1.23.2 openvino==2026.4.1 \
        openvino-telemetry==2025.2.0 nncf==3.4.0
} || exit 2
cat >"$work/count.py" <<'PYTHON'
import importlib.metadata as metadata
import os
import sys

forks = []
sys.addaudithook(lambda event, args: forks.append(event) if event == "os.fork" else None)
if sys.argv[1] == "without":
    sys.modules["openvino_telemetry"] = None

import numpy as np
import onnx
import openvino as ov
import nncf
from onnx import TensorProto, helper, numpy_helper

weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    [weight],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), sys.argv[2])
model = ov.convert_model(sys.argv[2])
row = np.ones((1, 4), np.float32)
nncf.quantize(model, nncf.Dataset([row] * 4))
# Events are sent by a thread: wait for it before counting.
if sys.argv[1] == "with":
    from openvino_telemetry import Telemetry

    Telemetry().sender.force_shutdown(30)
print(len(forks))
PYTHON
export HOME="$work"
with=$(env -u CI -u TF_BUILD -u JENKINS_URL "$work/venv/bin/python" "$work/count.py" with "$work/m.onnx" 2>/dev/null | tail -1)
without=$(env -u CI "$work/venv/bin/python" "$work/count.py" without "$work/m.onnx" 2>/dev/null | tail -1)
"$work/venv/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -E '^(openvino|nncf|openvino-telemetry) '
echo "forks in one conversion and quantization: $with; where the package cannot be imported: $without"
[ "$with" -ge 3 ] && [ "$without" -eq 0 ]
