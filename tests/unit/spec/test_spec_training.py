"""`optimize.train` and `optimize.distill`: what they mean, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.errors import SpecError
from repo_builder.spec.load import load
from repo_builder.spec.training import Ramp
from repo_builder.spec.types import Spec

TORCH = "torch: {factory: nets.py:make, inputs: {x: [1, 4]}, outputs: [a, b]}"
HEAD = "name: {name}\nversion: 1.0.0\ntargets: [cpu]\nsource: {{{source}}}\n"
TRAIN = "{data: train.npz, epochs: 3}"


def read(
    folder: Path, optimize: str, *, source: str = TORCH, more: str = "", **others: str
) -> Spec:
    """The spec called `net`; `others` are nets of other names with their `optimize`."""
    for name in ("train.npz", "other.npz", "nets.py", "loss.py", "model.onnx"):
        (folder / name).touch()
    for name, what in {"net": optimize, **others}.items():
        text = HEAD.format(name=name, source=source) + (more if name == "net" else "")
        (folder / f"{name}.yaml").write_text(text + f"optimize: {{{what}}}\n")
    specs = load([folder], targets.load())
    (found,) = (spec for spec in specs if isinstance(spec, Spec) and spec.name == "net")
    return found


def test_training_is_filled_in(tmp_path: Path) -> None:
    spec = read(tmp_path, f"train: {TRAIN}")
    train = spec.optimize.train
    assert train is not None
    assert (train.data, train.validation) == (tmp_path / "train.npz", None)
    assert (train.epochs, train.batch_size, train.learning_rate) == (3, 64, 1e-3)
    assert (train.optimizer, train.schedule, train.loss, train.target) == (
        "adamw",
        "cosine",
        "cross_entropy",
        "label",
    )
    assert spec.optimize.distill is None


def test_a_teacher_is_a_spec_with_its_own_teacher_or_a_file(tmp_path: Path) -> None:
    taught = f"train: {TRAIN}, distill: {{teacher: big}}"
    big = f"train: {TRAIN}, distill: {{teacher: model.onnx, alpha: {{start: 0.9, end: 0.5}}}}"
    spec = read(tmp_path, taught, big=big)
    distill = spec.optimize.distill
    assert distill is not None
    assert distill.onnx is None
    assert distill.temperature == Ramp(4.0, 4.0)
    assert spec.teacher is not None
    assert spec.teacher.name == "big"
    above = spec.teacher.optimize.distill
    assert above is not None
    assert above.onnx == tmp_path / "model.onnx"
    assert above.alpha == Ramp(0.9, 0.5)


@pytest.mark.parametrize(
    ("optimize", "words"),
    [
        ("distill: {teacher: model.onnx}", "nothing is trained; add `train: {data: train.npz"),
        ("train: {data: train.npz, epochs: 3, early_stop: 2}", "needs rows that score each epoch"),
        (
            "train: {data: train.npz, epochs: 3, quantization_aware: true}",
            "pays for weights of 4 bits; with 8 there is nothing to win back",
        ),
        (
            "precision: int8, quantization: {weights: int4, activations: none, per_channel: false},"
            "train: {data: train.npz, epochs: 3, quantization_aware: true}",
            "take `per_channel: false` out",
        ),
        ("train: {data: no.npz, epochs: 3}", "optimize.train.data: no such file: no.npz"),
        (
            "train: {data: train.npz, epochs: 3, validation: train.npz}",
            "is what the net is trained on, so it scores nothing",
        ),
        ("train: {data: other.npz, epochs: 3}", "is the evaluation data too"),
        ("train: {data: train.npz, epochs: 3, output: c}", "the net has no output 'c'"),
        (f"train: {TRAIN}, distill: {{teacher: net}}", "is this model itself"),
        (f"train: {TRAIN}, distill: {{teacher: nobody}}", "no spec 'nobody' was read"),
        (f"train: {TRAIN}, distill: {{teacher: no.onnx}}", "no such file: no.onnx"),
        (f"train: {TRAIN}, distill: {{teacher: big.pt}}", "big.pt is no net that can answer"),
        (
            "train: {data: train.npz, epochs: 3, loss: mse}, distill: {teacher: model.onnx}",
            "softens the classes of cross_entropy, and the net is trained with mse",
        ),
        (
            f"train: {TRAIN}, distill: {{teacher: model.onnx, alpha: {{start: 0, end: 2}}}}",
            "optimize.distill.alpha",
        ),
        (
            f"train: {TRAIN}, distill: {{teacher: model.onnx, temperature: {{start: 4, end: 0}}}}",
            "optimize.distill.temperature",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, optimize: str, words: str) -> None:
    evaluation = "data: {evaluation: {path: other.npz, metric: accuracy, outputs: {scores: a}}}\n"
    with pytest.raises(SpecError) as caught:
        read(tmp_path, optimize, more=evaluation)
    assert words in str(caught.value)


def test_nets_that_teach_each_other_are_refused(tmp_path: Path) -> None:
    by = "train: {data: train.npz, epochs: 3}, distill: {teacher: TEACHER}"
    with pytest.raises(SpecError, match="nets teach each other: net <- a <- net"):
        read(tmp_path, by.replace("TEACHER", "a"), a=by.replace("TEACHER", "net"))


@pytest.mark.parametrize("what", [f"train: {TRAIN}", "distill: {teacher: other}"])
def test_an_onnx_source_is_refused_with_the_reason(tmp_path: Path, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, what, source="onnx: model.onnx")
    said = str(caught.value)
    assert "an ONNX model cannot be trained: batch norms are folded" in said
    assert "write `source: {torch: ...}` with the net that it was exported from" in said
