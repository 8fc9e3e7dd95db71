"""`repo-builder init` on models of all kinds: what it says, and that what it writes builds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_build import repo_builder

from repo_builder import propose, targets
from repo_builder.base.errors import ModelError
from repo_builder.spec.load import load
from tests import zoo

ALL = targets.load(None)
SAID = {
    "softmax-head": "probabilities of 6 classes",
    "zip-map": "probabilities of 3 classes",
    "gemm-alpha-beta": "logits",
    "conv-plain": "for every pixel",
    "mask-added": "a reconstruction",
    "scalar-output": "one number a row",
    "detector-one-output": "Ultralytics' layout",
    "forest": "one number a row",
}

BUILT = (
    "detector-one-output", "dynamic-size", "forest", "gru-state", "one-batch-only", "softmax-head",
    "uint8-image", "zip-map",
)  # fmt: skip
"""One of each kind of the zoo that a spec could stumble over."""


def written(name: str, folder: Path) -> Path:
    """The spec that init proposes for a model, for every target that can."""
    model, _ = zoo.make(name)
    onnx.save(model, folder / f"{name}.onnx")
    spec = folder / f"{name}.yaml"
    request = propose.Request(name, folder / f"{name}.onnx", spec, ("*",))
    spec.write_text(propose.propose(request, ALL).text)
    return spec


@pytest.mark.parametrize("name", SAID)
def test_it_says_what_a_model_is_for_and_loads(tmp_path: Path, name: str) -> None:
    spec = written(name, tmp_path)
    assert SAID[name] in spec.read_text()
    on = {one.target for one in load([spec], ALL)}
    assert "cpu" in on
    # Tables of support decide: TensorRT has no ZipMap and no trees.
    assert ("jetson-orin-nx" in on) == (name not in ("zip-map", "forest"))


def test_what_it_writes_builds(tmp_path: Path) -> None:
    for name in BUILT:
        written(name, tmp_path)
    ended = repo_builder(
        *("build", ".", "--target", "cpu", "--no-images", "--json", "--store", "store"),
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert {row["status"] for row in json.loads(ended.stdout)["rows"]} == {"built"}


def test_from_a_table_to_int8_in_two_commands(tmp_path: Path) -> None:
    model, arrays = zoo.make("softmax-head")
    onnx.save(model, tmp_path / "net.onnx")
    rows = np.tile(arrays["x"].reshape(len(arrays["x"]), -1), (8, 1))
    rows += np.random.default_rng(0).normal(0, 0.1, rows.shape).astype(np.float32)
    classes = np.arange(len(rows)) % 6
    header = ",".join([*(f"c{n}" for n in range(rows.shape[1])), "class"])
    table = np.column_stack([rows, classes])
    np.savetxt(tmp_path / "rows.csv", table, "%g", ",", header=header, comments="")
    ended = repo_builder(
        *("init", "net.onnx", "--data", "rows.csv", "--label", "class", "--int8"), cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert "precision: int8" in (tmp_path / "net.yaml").read_text()
    assert (tmp_path / "net/calibration.npz").exists()
    assert (tmp_path / "net/evaluation.npz").exists()
    (spec,) = load([tmp_path / "net.yaml"], ALL)
    assert spec.evaluation is not None
    assert spec.evaluation.metric == "accuracy"


@pytest.mark.parametrize(
    ("file", "way"),
    [
        ("net.pt", "torch.onnx.export"),
        ("net.h5", "torch.onnx.export"),
        ("net.pkl", "skl2onnx"),
        ("net.tflite", "tf2onnx"),
        ("net.safetensors", "torch.onnx.export"),
    ],
)
def test_other_formats_are_told_the_way_to_onnx(tmp_path: Path, file: str, way: str) -> None:
    (tmp_path / file).write_bytes(b"\0" * 64)
    request = propose.Request("net", tmp_path / file, tmp_path / "net.yaml", ("cpu",))
    with pytest.raises(ModelError) as told:
        propose.propose(request, ALL)
    assert way in str(told.value)
