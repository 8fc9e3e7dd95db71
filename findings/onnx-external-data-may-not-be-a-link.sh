#!/bin/sh
# onnx, OpenVINO: a model with external data in a folder of links, as caches and stores make it that
# keep each file once (blobs/HASH, and snapshots/VERSION/NAME that points to it).
# Guess: a link to a file is that file. The .onnx is such a link, and it is read.
# Really: its data may not be one: onnx refuses links, OpenVINO what they point to. So a model loads
# from a cache until it grows past 2 GB. Copy it out with the links resolved.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 openvino==2026.4.1 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import os, pathlib, sys
import numpy as np, onnx, openvino as ov
from onnx import TensorProto, helper, numpy_helper

graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
    [numpy_helper.from_array(np.ones((64, 64), np.float32), "w")],
)
opset = [helper.make_opsetid("", 17)]
model = helper.make_model(graph, opset_imports=opset, ir_version=8)


def attempt(what, read, path):
    try:
        read(str(path))
    except Exception as error:
        lines = str(error).splitlines()
        (line,) = (line for line in lines if "symbolic" in line or "outside" in line)
        print(f"{path}, {what}: refused, {line.replace(os.getcwd(), '.')}")
        return False
    print(f"{path}, {what}: loads")
    return True


def outcomes(folder, external):
    blobs, snapshot = pathlib.Path(folder, "blobs"), pathlib.Path(folder, "snapshot")
    for place in (blobs, snapshot):
        place.mkdir(parents=True)
    onnx.save_model(model, blobs / "model.onnx", save_as_external_data=external,
                    location="weights", size_threshold=0)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(f"../blobs/{blob.name}")
    return [
        attempt(what, read, place / "model.onnx")
        for place in (blobs, snapshot)
        for what, read in (("onnx", onnx.load), ("OpenVINO", ov.Core().read_model))
    ]


print("onnx", onnx.__version__, "openvino", ov.__version__)
inside, outside = outcomes("inside", False), outcomes("outside", True)
sys.exit((inside, outside) != ([True] * 4, [True, True, False, False]))
PY
