"""From a table to a built int8 model, by the lines that `data` prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from workplace import repo_builder


def test_what_data_prints_builds(tmp_path: Path) -> None:
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] logits) '
        "{ logits = MatMul(x, w) }"
    )
    weight = np.eye(4, dtype=np.float32)
    net.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(net, tmp_path / "net.onnx")
    values = np.random.default_rng(0).normal(size=(300, 4)).round(3)
    lines = [",".join([*map(str, row), "abcd"[row.argmax()]]) for row in values]
    (tmp_path / "t.csv").write_text("\n".join(["p,q,r,s,kind", *lines]))
    head = "name: net\nversion: 1.0.0\nsource: {onnx: net.onnx}\ntargets: [cpu]\n"
    spec = tmp_path / "net.yaml"
    spec.write_text(head)
    made = repo_builder(
        "data", "from-csv", "t.csv", "--label", "kind", "--spec", spec, cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    spec.write_text(f"{head}{made.stdout}optimize: {{precision: int8}}\n")
    built = repo_builder("build", spec, "--store", tmp_path / "store", "--json", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["rows"][0]["score"]["built"] > 0.9
