"""`repo-builder init`: a spec for any model, which loads as it was written."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import squares
from test_bad_input import CRASHES, GOOD, model
from test_build import repo_builder

from repo_builder import targets
from repo_builder.spec.load import load
from repo_builder.spec.types import OnnxSource

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("net.onnx", "net"),
        ("my model.onnx", "my-model"),
        ("3d-net.v2.onnx", "3d-net.v2"),
        ("модель.onnx", "model"),
        ("..weird.onnx", "weird"),
        ("yes.onnx", "yes"),
        ("1e3.onnx", "1e3"),
        ("it's #1: {a}.onnx", "it-s-1-a"),
    ],
)
def test_any_file_name_gives_a_spec_that_loads(tmp_path: Path, file: str, name: str) -> None:
    onnx.save(model(GOOD), tmp_path / file)
    ended = repo_builder("init", file, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (spec,) = load([tmp_path / f"{name}.yaml"], targets.load(None))
    assert (spec.id, spec.source) == (f"{name}@cpu", OnnxSource(tmp_path / file))


def test_what_was_found_is_said(tmp_path: Path) -> None:
    scalar = "(float[N,4] x) => (float total) { total = ReduceSum<keepdims=0>(x) }"
    onnx.save(model(scalar), tmp_path / "scalar.onnx")
    onnx.save(model(GOOD), tmp_path / "batched.onnx")
    said = {
        "batched.onnx": ["input  x: FP32 [N, 3]", "output y: FP32 [N, 2]"],
        "scalar.onnx": ["output total: FP32 []", "no batching: output 'total' is a scalar"],
        LIGHT / "light_squeezenet.onnx": [
            "input  data_0: FP32 [1, 3, 224, 224]",
            "no batching: dimension 0 of input 'data_0' is fixed at 1",
        ],
    }
    for file, lines in said.items():
        ended = repo_builder("init", file, "--out", "spec.yaml", "--force", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        text = (tmp_path / "spec.yaml").read_text()
        assert all(line in text for line in lines), text


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    onnx.save(model(GOOD), tmp_path / "net.onnx")
    (tmp_path / "net.yaml").write_text("mine")
    ended = repo_builder("init", "net.onnx", cwd=tmp_path)
    assert ended.returncode == 9
    assert "net.yaml exists; name another file with --out, or replace it" in ended.stderr
    assert (tmp_path / "net.yaml").read_text() == "mine"
    assert repo_builder("init", "net.onnx", "--force", cwd=tmp_path).returncode == 0


def test_a_model_that_cannot_be_used_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    onnx.save(model(CRASHES), tmp_path / "crashes.onnx")
    bad = {"text.onnx": "not an ONNX model", "gone.onnx": "no such file"}
    if platform.machine() == "x86_64":
        bad["crashes.onnx"] = "running it crashed (Floating point exception)"
    for file, what in bad.items():
        ended = repo_builder("init", file, cwd=tmp_path)
        assert ended.returncode == 5
        assert what in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert list(tmp_path.glob("*.yaml")) == []


def test_a_model_of_links_with_its_weights_beside_the_link(tmp_path: Path) -> None:
    """The layout of Hugging Face's cache; `init` reads it, and `build` too."""
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 512] x) => (float[N, 512] y) '
        "{ y = Add(x, w) }"
    )
    weight = np.arange(512, dtype=np.float32)
    net.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    onnx.save(net, blobs / "net.onnx", save_as_external_data=True, location="net.onnx_data")
    for name, blob in (("net.onnx", "1f00"), ("net.onnx_data", "2e11")):
        (blobs / name).rename(blobs / blob)
        (snapshot / name).symlink_to(f"../../../blobs/{blob}")
    ended = repo_builder("init", snapshot / "net.onnx", "--out", "net.yaml", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "dimension 0 is a batch" in (tmp_path / "net.yaml").read_text(encoding="utf-8")
    built = repo_builder("build", "net.yaml", "--store", "store", "--out", "out", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    (served,) = (tmp_path / "out" / "cpu").glob("models/net/*/model.onnx")
    x = np.zeros((2, 512), np.float32)
    session = onnxruntime.InferenceSession(served)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.stack([weight, weight]))


def test_a_detector_in_ultralytics_layout_is_told_what_to_write(tmp_path: Path) -> None:
    onnx.save(squares.model(), tmp_path / "squares.onnx")
    ended = repo_builder("init", "squares.onnx", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "squares.yaml").read_text()
    assert "metric: map50_ultralytics, outputs: {detections: output0}}" in text
    assert "{policy: max_score, output: output0, layout: ultralytics, threshold: 0.5}" in text
    assert "nms: {layout: ultralytics}, with inputs: {detections: STEP.output0}" in text
    load([tmp_path / "squares.yaml"], targets.load(None))
