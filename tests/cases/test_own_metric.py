"""A metric of the user's own judges a build, and its file is part of the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from workplace import repo_builder

SCORE = """import numpy as np

def score(outputs, arrays):
    return np.abs(outputs["y"] - arrays["truth"]).mean()
"""
SPEC = """name: m
version: 1.0.0
source: {onnx: m.onnx}
targets: [cpu]
data:
  evaluation: {path: e.npz, samples: 16, metric: own, own: {file: score.py, better: lower}}
gates: {max_accuracy_drop: 0.01}
"""


def _place(folder: Path) -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "m.onnx")
    rows = random.standard_normal((32, 4)).astype(np.float32)
    np.savez(folder / "e.npz", x=rows, truth=rows @ weights + 0.5)
    (folder / "score.py").write_text(SCORE)
    (folder / "m.yaml").write_text(SPEC)


def test_a_metric_of_the_users_own_judges_the_build(tmp_path: Path) -> None:
    _place(tmp_path)
    options = ("m.yaml", "--store", tmp_path / "store")
    ended = repo_builder("build", *options, "--json", "--no-images", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads(ended.stdout)["rows"]
    assert row["score"]["metric"] == "score"
    assert abs(row["score"]["built"] - 0.5) < 1e-5

    (tmp_path / "score.py").write_text(SCORE.replace("mean", "max"))
    planned = repo_builder("plan", *options, "--json", cwd=tmp_path)
    why: dict[str, Any] = {
        line["step"]: line["why"] for line in json.loads(planned.stdout) if not line["cached"]
    }
    assert why["reference"] == "score.py changed"
    assert "import" not in why

    (tmp_path / "score.py").write_text("def score(outputs, arrays):\n    return outputs['z']\n")
    failed = repo_builder("build", *options, "--no-images", cwd=tmp_path)
    assert failed.returncode == 6
    assert "score() of score.py failed: KeyError: 'z', line 2" in failed.stderr
