"""`repo-builder init` with data: from a model and what a user has to a spec that builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image
from workplace import repo_builder

from repo_builder import targets
from repo_builder.spec.load import load
from repo_builder.spec.types import Spec


def net(folder: Path, text: str, name: str = "net") -> Path:
    head = '<ir_version: 8, opset_import: ["" : 17]> g '
    onnx.save(onnx.parser.parse_model(head + text), folder / f"{name}.onnx")
    return folder


def spec_of(folder: Path, name: str = "net") -> Spec:
    (spec,) = load([folder / f"{name}.yaml"], targets.load(None))
    assert isinstance(spec, Spec)
    return spec


def init(folder: Path, *arguments: object) -> Any:
    return repo_builder("init", "net.onnx", *arguments, cwd=folder)


BRIGHTNESS = """(float[n, 3, 8, 8] image) => (float[n, 2] scores)
<float[3, 2] w = {-40.0, 40.0, 0.0, 0.0, 0.0, 0.0}, float[2] b = {-2.0, 2.0}>
{ p = GlobalAveragePool(image) f = Flatten(p) m = MatMul(f, w) a = Add(m, b)
  scores = Softmax(a) }"""
"""Whether red is above 0.49 of its range, if it was trained with ImageNet's mean and std."""


def test_from_a_folder_of_images_to_an_int8_model(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, red in {"dark": 0.44, "light": 0.49}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(random.normal(red * 255, 5, (9, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    net(tmp_path, BRIGHTNESS)
    ended = init(tmp_path, "--data", "photos", "--int8", "--target", "cpu", "--target", "cpu-open*")
    assert ended.returncode == 0, ended.stderr
    assert "preprocess: ImageNet's mean and std, by accuracy on 40 images" in ended.stderr
    assert "accuracy 1 on 32 rows" in ended.stderr
    spec = spec_of_target(tmp_path, "net@cpu")
    assert (tmp_path / "net" / "labels.txt").read_text() == "dark\nlight\n"
    assert spec.serving.labels == {"scores": tmp_path / "net" / "labels.txt"}
    assert spec.preprocess is not None
    assert spec.preprocess.parameters["mean"] == [0.485, 0.456, 0.406]
    built = repo_builder(
        "build", "net.yaml", "--store", "store", "--no-images", "--json", cwd=tmp_path
    )
    assert built.returncode == 0, built.stderr
    scores = {row["id"]: row["score"]["built"] for row in json.loads(built.stdout)["rows"]}
    assert scores == {"net@cpu": 1.0, "net@cpu-openvino": 1.0}
    again = init(tmp_path, "--data", "photos", "--out", "other.yaml")
    assert again.returncode == 9
    assert "calibration.npz exists" in again.stderr


def spec_of_target(folder: Path, wanted: str) -> Spec:
    (spec,) = (s for s in load([folder / "net.yaml"], targets.load(None)) if s.id == wanted)
    assert isinstance(spec, Spec)
    return spec


PRODUCT = """(float[n, 4] x) => (float[n, 4] logits)
<float[4, 4] w = {1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0}>
{ logits = MatMul(x, w) }"""
ARGMAX = "(float[n, 4] x) => (float[n, 4] logits) { logits = Identity(x) }"


def test_from_a_table_whose_label_column_has_a_usual_name(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4)).round(3)
    lines = [",".join([*map(str, row), "abcd"[row.argmax()]]) for row in values]
    (tmp_path / "t.csv").write_text("\n".join(["p,q,r,s,Species", *lines]))
    (tmp_path / "u.csv").write_text("\n".join(["p,q,r,s,kind", *lines]))
    net(tmp_path, ARGMAX)
    asked = init(tmp_path, "--data", "u.csv")
    assert asked.returncode == 2
    assert "say which column is the label: --label, of p, q, r, s, kind" in asked.stderr
    for arguments in (("--data", "u.csv", "--label", "kind"), ("--data", "t.csv", "--force")):
        ended = init(tmp_path, *arguments)
        assert ended.returncode == 0, ended.stderr
        evaluation = spec_of(tmp_path).evaluation
        assert evaluation is not None
        assert (evaluation.metric, evaluation.outputs) == ("accuracy", {"scores": "logits"})
        assert "labels: 0 a, 1 b, 2 c, 3 d" in ended.stderr


def test_from_arrays_of_values(tmp_path: Path) -> None:
    net(tmp_path, "(float[n, 4] x) => (float[n, 1] y) { y = ReduceMean<axes = [1]>(x) }")
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.savez(tmp_path / "all.npz", x=x, price=x.mean(axis=1))
    ended = init(tmp_path, "--data", "all.npz")
    assert ended.returncode == 0, ended.stderr
    evaluation = spec_of(tmp_path).evaluation
    assert evaluation is not None
    assert (evaluation.metric, evaluation.labels) == ("rmse", {"target": "target"})
    np.save(tmp_path / "x.npy", x)
    ended = init(tmp_path, "--data", "x.npy", "--force")
    assert ended.returncode == 0, ended.stderr
    assert spec_of(tmp_path).calibration is not None


def test_files_beside_the_model_are_used_where_they_fit(tmp_path: Path) -> None:
    net(tmp_path, ARGMAX)
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=x[:, :3])
    np.savez(tmp_path / "evaluation.npz", x=x, digit=x.argmax(axis=1))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    ended = init(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "calibration.npz is not used: 'x' has shape [30, 3]" in ended.stderr
    assert "labels.txt is not used: 3 lines for 4 classes" in ended.stderr
    spec = spec_of(tmp_path)
    assert (spec.calibration, spec.serving.labels) == (None, {})
    assert spec.evaluation is not None
    assert spec.evaluation.labels == {"label": "digit"}
    assert spec.gates.max_accuracy_drop == 0.01


def test_a_score_of_chance_is_told(tmp_path: Path) -> None:
    net(tmp_path, ARGMAX)
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.savez(tmp_path / "evaluation.npz", x=x, label=(x.argmax(axis=1) + 1) % 4)
    ended = init(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "hardly more than a guess among 4 classes" in ended.stderr


def test_int8_where_nothing_can_be_quantized_is_written_as_fp32_and_builds(
    tmp_path: Path,
) -> None:
    """As of scikit-learn's linear and tree models, which are not of ONNX's own operators."""
    net(tmp_path, ARGMAX)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=x[:20])
    np.savez(tmp_path / "evaluation.npz", x=x[20:], label=x[20:].argmax(axis=1))
    ended = init(tmp_path, "--int8")
    assert ended.returncode == 0, ended.stderr
    assert "int8 would find no convolution or matrix product to quantize" in ended.stderr
    assert spec_of(tmp_path).optimize.precision == "fp32"
    ended = repo_builder("build", "net.yaml", "--store", "s", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("--int8",), 5, "--int8 needs calibration data"),
        (("--target", "tflite-micro"), 5, "takes int8 only, which needs calibration data"),
        (("--target", "cpuu"), 2, "did you mean 'cpu'?"),
        (("--label", "y"), 2, "give --data too"),
        (("--data", "gone"), 2, "no such file or folder"),
        (("--data", "net.onnx"), 2, "bring a folder of images, or a .csv, .npy or .npz file"),
        (("--data", "."), 2, "the model takes no images, but x ['n', 4]"),
    ],
)
def test_what_cannot_be_is_a_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, what: str
) -> None:
    ended = init(net(tmp_path, PRODUCT), *arguments)
    assert ended.returncode == code
    assert what in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.glob("*.yaml")) == []
