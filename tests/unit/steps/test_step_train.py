"""Training and its teacher as steps: what they refuse, and what they make for the next one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node as op
from workbench import Bench, make

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import RepoBuilderError
from repo_builder.nets.losses import LOGITS, Ramp
from repo_builder.nets.recipe import Recipe
from repo_builder.nets.types import Net
from repo_builder.steps import _runtimes, _training, soft_targets, train_torch

torch = pytest.importorskip("torch")

NET = Net("nets.py", "make", {}, (Tensor("x", "FP32", (1, 4)),), ("logits",), True)
CODE = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
"""
LOSS = """
def loss(outputs, arrays):
    return (outputs["logits"].argmax(1) == arrays["label"]).float().mean()

def typo(outputs, arrays):
    return outputs["logit"]
"""
TRAINING = _training.Training(Recipe(epochs=2, batch_size=8), "label", "")
DISTILLATION = _training.Distillation(Ramp.constant(4.0), Ramp.constant(0.9), {"1": "hidden"})


def rows(count: int = 24) -> dict[str, Any]:
    random = np.random.default_rng(0)
    x = random.standard_normal((count, 4), np.float32)
    return {"x": x, "label": x[:, :3].argmax(axis=1)}


def teacher(bench: Bench, classes: int = 3) -> tuple[Path, dict[str, Any]]:
    """An ONNX model of two layers, and its weights."""
    random = np.random.default_rng(1)
    weights = {
        "a": random.standard_normal((4, 7), np.float32),
        "b": random.standard_normal((7, classes), np.float32),
    }
    nodes = [op("MatMul", ["x", "a"], ["m"]), op("Relu", ["m"], ["hidden"])]
    nodes.append(op("MatMul", ["hidden", "b"], ["scores"]))
    model = make(nodes, {"x": ["N", 4]}, {"scores": ["N", classes]}, weights)
    return bench.model(model), weights


class Shop:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.code = bench.folder()
        (self.code / "nets.py").write_text(CODE)

    def data(self, **arrays: Any) -> Path:
        folder = self.bench.data("train", **(arrays or rows()))
        (folder / "loss.py").write_text(LOSS)
        return folder

    def train(
        self, data: Path, training: _training.Training = TRAINING, *, net: Net = NET, **more: Path
    ) -> tuple[Path, train_torch.Facts]:
        out = self.bench.folder()
        inputs = train_torch.Inputs(self.code, data, **more)
        params = train_torch.Params(net, training)
        return out, train_torch.run(inputs, params, out, self.bench.scratch / "kept")

    def soft(self, model: Path, data: Path, **params: Any) -> tuple[Path, soft_targets.Facts]:
        out = self.bench.folder()
        return out, soft_targets.run(
            soft_targets.Inputs(model, data), soft_targets.Params(**params), out
        )


@pytest.fixture
def shop(bench: Bench) -> Shop:
    return Shop(bench)


def test_a_teacher_answers_every_row_and_shows_its_features(shop: Shop) -> None:
    model, weights = teacher(shop.bench)
    data = shop.data()
    out, facts = shop.soft(model, data, features=("hidden",))
    hidden = np.maximum(rows()["x"] @ weights["a"], 0)
    np.testing.assert_allclose(np.load(out / f"{LOGITS}.npy"), hidden @ weights["b"], rtol=1e-4)
    np.testing.assert_allclose(np.load(out / f"{LOGITS}.0.npy"), hidden, rtol=1e-5)
    assert facts == soft_targets.Facts(24, {"scores": (3,), "hidden": (7,)})
    training = dataclasses.replace(TRAINING, distillation=DISTILLATION)
    made, trained = shop.train(data, training, soft=out)
    assert [path.name for path in made.iterdir()] == ["weights.safetensors"]
    assert trained.parameters == 4 * 5 + 5 + 5 * 3 + 3  # the map of features is none of them
    again, _ = shop.train(data, training, soft=out)
    name = "weights.safetensors"
    assert (made / name).read_bytes() == (again / name).read_bytes()
    onwards, _ = shop.train(data, TRAINING, weights=made)
    assert (onwards / name).read_bytes() != (made / name).read_bytes()
    assert list((shop.bench.scratch / "kept").iterdir()) == []


def test_rows_without_labels_are_enough_where_there_is_a_teacher(shop: Shop) -> None:
    model, _ = teacher(shop.bench)
    data = shop.data(x=rows()["x"])
    out, _ = shop.soft(model, data)
    training = dataclasses.replace(
        TRAINING, distillation=dataclasses.replace(DISTILLATION, features={})
    )
    _, trained = shop.train(data, training, soft=out)
    assert trained.history[1].loss < trained.history[0].loss


def test_arrays_are_mapped_and_none_is_an_object(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(6).reshape(2, 3))
    found = _training.mapped(tmp_path / "a.npz", tmp_path / "unpacked")
    assert isinstance(found["x"], np.memmap)
    assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    np.savez(tmp_path / "b.npz", x=np.array([None]))
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:50])
    for name, words in (("b", "no .npz of plain"), ("c", "damaged"), ("d", "is missing")):
        with pytest.raises(RepoBuilderError, match=words):
            _training.mapped(tmp_path / f"{name}.npz", tmp_path / name)


@pytest.mark.parametrize(
    ("training", "arrays", "words"),
    [
        ({"target": "lable"}, {}, "train.npz has no array 'lable' to learn; did you mean 'label'"),
        ({"output": "logit"}, {}, "the net has no output 'logit'; did you mean 'logits'"),
        ({"own": "lose"}, {}, "loss.py has no function 'lose'; did you mean 'loss'"),
        ({"own": "loss"}, {}, "the loss loss() must return one number that is computed from"),
        ({"own": "typo"}, {}, "the loss typo() failed: KeyError: 'logit'"),
        ({}, {"x": np.zeros((24, 5), np.float32)}, "'x' has shape [24, 5], the model needs"),
        ({}, {"x": np.full((24, 4), np.nan, np.float32)}, "NaN or infinity in 24 rows"),
        ({}, {"label": np.full(24, 3)}, "has class 3, the net knows 0 to 2"),
    ],
)
def test_training_that_does_not_fit_is_refused(
    shop: Shop, training: dict[str, Any], arrays: dict[str, Any], words: str
) -> None:
    asked = dataclasses.replace(TRAINING, **training)
    with pytest.raises(RepoBuilderError) as caught:
        shop.train(shop.data(**{**rows(), **arrays}), asked)
    assert words in str(caught.value)


def test_a_net_without_batches_is_refused(shop: Shop) -> None:
    with pytest.raises(RepoBuilderError, match=r"nets.py:make takes no batches of rows"):
        shop.train(shop.data(), net=dataclasses.replace(NET, batch=False))


def test_a_teacher_with_other_classes_is_refused(shop: Shop) -> None:
    model, _ = teacher(shop.bench, classes=5)
    data = shop.data()
    out, _ = shop.soft(model, data, features=("hidden",))
    training = dataclasses.replace(TRAINING, distillation=DISTILLATION)
    with pytest.raises(RepoBuilderError, match=r"the teacher answers \[5\] a row, the net \[3\]"):
        shop.train(data, training, soft=out)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"output": "logits"}, "the teacher has no output 'logits'; one of: scores"),
        ({"features": ("hiden",)}, "the teacher's ONNX has no tensor 'hiden'; did you mean 'hid"),
    ],
)
def test_what_a_teacher_does_not_have_is_told(
    shop: Shop, params: dict[str, Any], words: str
) -> None:
    model, _ = teacher(shop.bench)
    with pytest.raises(RepoBuilderError) as caught:
        shop.soft(model, shop.data(), **params)
    assert words in str(caught.value)


def test_data_that_a_teacher_does_not_take_are_told(shop: Shop) -> None:
    model, _ = teacher(shop.bench)
    with pytest.raises(RepoBuilderError, match=r"no array 'x'"):
        shop.soft(model, shop.data(y=rows()["x"]))


@pytest.mark.parametrize("aware", [True, False])
def test_4_bits_change_nothing_in_a_net_that_was_trained_for_them(shop: Shop, aware: bool) -> None:
    training = dataclasses.replace(TRAINING, aware=_training.Aware(False, False) if aware else None)
    made, facts = shop.train(shop.data(), training)
    assert facts.rounded == (("0", "2") if aware else ())
    bench = shop.bench
    params = {"net": NET}
    exported, _ = bench.run("export", params=params, code=shop.code, weights=made)
    in_4_bits = {"weights": "int4", "symmetric": False}
    stored, counted = bench.run("quantize-weights", params=in_4_bits, model=exported)
    assert counted.in_4_bits == {"Gemm": 2}
    x = rows()["x"]
    exact, found = (
        _runtimes.load(folder, "onnxruntime").run({"x": x})["logits"]
        for folder in (exported, stored)
    )
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error < 1e-5 if aware else error > 1e-3
