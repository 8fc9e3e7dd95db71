"""`release.near`: what it means, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.errors import SpecError
from repo_builder.spec.load import load
from repo_builder.spec.released import Released
from repo_builder.spec.types import OnnxSource, Spec

DATA = "evaluation: {path: e.npz, metric: accuracy}"


def read(folder: Path, *, target: str = "cpu", optimize: str = "", data: str = DATA) -> Spec:
    for name in ("e.npz", "c.npz", "model.onnx", "old.onnx"):
        (folder / name).touch()
    (folder / "net.yaml").write_text(
        f"name: net\nversion: 1.0.0\ntargets: [{target}]\nsource: {{onnx: model.onnx}}\n"
        f"release: {{near: old.onnx}}\noptimize: {{{optimize}}}\ndata: {{{data}}}\n"
    )
    (found,) = load([folder], targets.load())
    assert isinstance(found, Spec)
    return found


def test_the_base_is_a_model_file(tmp_path: Path) -> None:
    assert read(tmp_path).near == OnnxSource(tmp_path / "old.onnx")
    (tmp_path / "old.onnx").unlink()
    text = (tmp_path / "net.yaml").read_text()
    (tmp_path / "net.yaml").write_text(text.replace("old.onnx", "gone.onnx"))
    with pytest.raises(SpecError, match=r"release\.near: no such file: gone\.onnx"):
        load([tmp_path], targets.load())


def test_the_base_is_a_release(tmp_path: Path) -> None:
    read(tmp_path)
    spec = tmp_path / "net.yaml"
    text = spec.read_text()
    spec.write_text(text.replace("near: old.onnx", "near: net:0.9.0, registry: registry"))
    (found,) = load([tmp_path], targets.load())
    assert isinstance(found, Spec)
    assert found.near == Released("net:0.9.0", tmp_path / "registry", "cpu")
    for wrong, words in (
        ("near: net:0.9.0", "names a release and no registry"),
        ("near: old.onnx, registry: registry", "is of no use: old.onnx is a file"),
    ):
        spec.write_text(text.replace("near: old.onnx", wrong))
        with pytest.raises(SpecError, match=words):
            load([tmp_path], targets.load())


@pytest.mark.parametrize(
    ("target", "optimize", "data", "words"),
    [
        ("snapdragon-qcs8275", "", DATA, "toolchain writes weights anew"),
        (
            "cpu",
            "precision: int8",
            f"{DATA}, calibration: {{path: c.npz}}",
            "the precision is int8",
        ),
        ("cpu", "", "", "needs rows that show what it costs"),
    ],
)
def test_what_cannot_be(tmp_path: Path, target: str, optimize: str, data: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        read(tmp_path, target=target, optimize=optimize, data=data)
