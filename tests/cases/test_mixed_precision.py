"""Mixed precision end to end: what stays in floating point is told, and its bytes are saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from workplace import repo_builder

SPEC = """
name: net
version: 1.0.0
source: {onnx: net.onnx}
targets: [cpu, cpu-openvino, snapdragon-qcs8275]
data:
  calibration: {path: rows.npz, samples: 64}
  evaluation: {path: judged.npz, metric: mse, labels: {target: target}, outputs: {value: y}}
optimize: {precision: int8, quantization: {keep_float: auto}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The first layer reads an input 30 times as large as 127 others, which int8 cannot bear."""
    random = np.random.default_rng(0)
    far = np.array([30, *[1] * 127], np.float32)
    shapes = ((128, 64), (64, 256), (256, 4))
    stored = [(random.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for s in shapes]
    stored[0] /= far[:, None]
    rows = (random.normal(size=(64, 128)) * far).astype(np.float32)
    nodes, last, x = [], "x", rows
    for number, weights in enumerate(stored):
        out = "y" if number == 2 else f"a{number}"
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [out], f"layer{number}"))
        x = x @ weights
        if number < 2:
            nodes.append(helper.make_node("Relu", [out], [f"r{number}"], f"relu{number}"))
            last, x = f"r{number}", np.maximum(x, 0)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 128])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
    tensors = [numpy_helper.from_array(array, f"w{n}") for n, array in enumerate(stored)]
    graph = helper.make_graph(nodes, "net", given, made, tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    np.savez(tmp_path / "rows.npz", x=rows)
    np.savez(tmp_path / "judged.npz", x=rows, target=x)
    file = tmp_path / "net.yaml"
    file.write_text(SPEC)
    return file


def test_a_layer_stays_in_floating_point_and_its_weights_in_8_bits(spec: Path) -> None:
    out = spec.parent / "build"
    ended = repo_builder(
        "build", spec, "--out", out, "--store", spec.parent / "store", "--no-images", "-q"
    )
    assert ended.returncode == 0, ended.stderr
    rows = {row["target"]: row for row in json.loads((out / "report.json").read_text())["rows"]}
    for target, row in rows.items():
        assert row["status"] == "built"
        (note,) = row["notes"]
        assert note.startswith("mixed precision: 1 of 3 layers computes in floating point")
        assert "'layer0' (alone " in note
        assert row["difference"]["y"]["relative"] < 0.05
        manifest = json.loads((out / target / "manifest.json").read_text())
        assert manifest["models"]["net"]["notes"] == [note]
    for target in ("cpu", "cpu-openvino"):
        assert "1 of them with weights stored in int8" in rows[target]["notes"][0]
        weights = 128 * 64 + 64 * 256 + 256 * 4
        assert rows[target]["size"] < 1.8 * weights
    page = (out / "report.html").read_text()
    assert "computes in floating point" in page
