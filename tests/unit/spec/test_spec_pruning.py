"""`optimize.prune`: what it means, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.errors import SpecError
from repo_builder.spec.load import load
from repo_builder.spec.pruning import Pruning
from repo_builder.spec.types import Spec

TORCH = "torch: {factory: nets.py:make, inputs: {x: [1, 4]}, outputs: [a]}"
TRAIN = "train: {data: train.npz, validation: validation.npz, epochs: 3}"


def read(folder: Path, optimize: str, source: str = TORCH, target: str = "cpu") -> Spec:
    for name in ("train.npz", "validation.npz", "nets.py", "model.onnx"):
        (folder / name).touch()
    head = f"name: net\nversion: 1.0.0\ntargets: [{target}]\nsource: {{{source}}}\n"
    (folder / "net.yaml").write_text(head + f"optimize: {{{optimize}}}\n")
    (found,) = load([folder], targets.load())
    assert isinstance(found, Spec)
    return found


def test_pruning_is_filled_in(tmp_path: Path) -> None:
    spec = read(tmp_path, f"{TRAIN}, prune: {{share: 0.5}}")
    assert spec.optimize.prune == Pruning(0.5, "channels", "magnitude", 16, 1, ())
    asked = "{share: 0.3, of: macs, criterion: taylor, round_to: 8, iterations: 3, keep: [a.*, b]}"
    spec = read(tmp_path, f"{TRAIN}, prune: {asked}")
    assert spec.optimize.prune == Pruning(0.3, "macs", "taylor", 8, 3, ("a.*", "b"))
    assert read(tmp_path, TRAIN).optimize.prune is None


@pytest.mark.parametrize(
    ("optimize", "source", "target", "words"),
    [
        (
            "prune: {share: 0.5}",
            "onnx: model.onnx",
            "cpu",
            "an ONNX model cannot be pruned: its batch norms are part of the weights and nothing "
            "is left to train it with",
        ),
        ("prune: {share: 0.5}", TORCH, "cpu", "needs fine-tuning, and rows that tell whether"),
        (
            "train: {data: train.npz, epochs: 3}, prune: {share: 0.5}",
            TORCH,
            "cpu",
            "add `train: {data: train.npz, validation: validation.npz, epochs: 20}`",
        ),
        (
            f"{TRAIN}, prune: {{share: 0.5, iterations: 4}}",
            TORCH,
            "cpu",
            "4 parts of pruning share 3 epochs",
        ),
        (
            f"{TRAIN}, prune: {{share: 0.5, of: latency}}",
            TORCH,
            "jetson-orin-nx",
            "the latency on jetson-orin-nx cannot be measured here; write `of: macs`",
        ),
        (f"{TRAIN}, prune: {{share: 1}}", TORCH, "cpu", "optimize.prune.share"),
    ],
)
def test_what_cannot_be_pruned_is_told_with_the_way_out(
    tmp_path: Path, optimize: str, source: str, target: str, words: str
) -> None:
    with pytest.raises(SpecError) as refused:
        read(tmp_path, optimize, source, target)
    assert words in str(refused.value)
