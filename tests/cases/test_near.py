"""A version brought near the one before it: built, judged, and delivered in a small delta."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from workplace import repo_builder

from repo_builder.release.delta import apply, make

SPEC = """name: m
version: {version}
source: {{onnx: {source}.onnx}}
targets: [cpu]
data:
  evaluation: {{path: e.npz, metric: accuracy, outputs: {{scores: y}}}}
gates: {{max_accuracy_drop: 0.01}}
"""
SERVED = "cpu/models/m/1000000/model.onnx"


def _model(path: Path, weights: np.ndarray) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def _built(folder: Path, spec: str) -> dict[str, Any]:
    options = ("--store", folder / "store", "--out", folder / spec, "--json", "--no-images")
    ended = repo_builder("build", f"{spec}.yaml", *options, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads(ended.stdout)["rows"]
    found: dict[str, Any] = row
    return found


def test_a_version_near_the_one_before(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    old = random.standard_normal((256, 100)).astype(np.float32)
    new = old + random.standard_normal(old.shape).astype(np.float32) * np.float32(5e-3)
    rows = random.standard_normal((400, 256)).astype(np.float32)
    np.savez(tmp_path / "e.npz", x=rows, label=(rows @ new).argmax(axis=1))
    _model(tmp_path / "old.onnx", old)
    _model(tmp_path / "new.onnx", new)
    for name in ("old", "new"):
        text = SPEC.format(version="1.0.0", source=name)
        (tmp_path / f"{name}.yaml").write_text(text)
    _built(tmp_path, "old")
    for command in (("registry", "init"), ("release", "create", "old", "--registry")):
        ended = repo_builder(*command, "registry", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    with (tmp_path / "new.yaml").open("a") as spec:
        spec.write("release: {near: m:1.0.0, registry: registry}\n")
    row = _built(tmp_path, "new")
    (note,) = (note for note in row["notes"] if note.startswith("brought near"))
    assert "of labels stay" in note
    assert row["score"]["source"] == 1.0
    before, after = (tmp_path / name / SERVED for name in ("old", "new"))
    made = make(before, after, tmp_path / "delta")
    assert made is not None
    assert made.size < 0.15 * made.header.length
    with (
        (tmp_path / "delta").open("rb") as delta,
        before.open("rb") as base,
        (tmp_path / "result").open("w+b") as out,
    ):
        apply(delta, base, out, made.header.digest, made.header.length)
    assert (tmp_path / "result").read_bytes() == after.read_bytes()


def test_a_release_that_is_not_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", x=np.zeros((2, 256), np.float32), label=[0, 1])
    _model(tmp_path / "new.onnx", np.ones((256, 100), np.float32))
    text = SPEC.format(version="1.0.0", source="new")
    (tmp_path / "new.yaml").write_text(f"{text}release: {{near: m:0.9.0, registry: registry}}\n")
    command = ("build", "new.yaml", "--store", tmp_path / "store", "--no-images")
    ended = repo_builder(*command, cwd=tmp_path)
    assert ended.returncode == 8
    assert "registry: is no registry; make one: repo-builder registry init" in ended.stderr
    assert repo_builder("registry", "init", "registry", cwd=tmp_path).returncode == 0
    ended = repo_builder(*command, cwd=tmp_path)
    assert ended.returncode == 2
    assert "has no m:0.9.0" in ended.stderr
    assert "Traceback" not in ended.stderr
