"""`prune` and `choose`: what they hand on, and what they find out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workbench import Bench

from repo_builder.base.artifact import Tensor
from repo_builder.nets.recipe import Recipe
from repo_builder.nets.types import Net
from repo_builder.steps import _onnx, _training

torch = pytest.importorskip("torch")

NET = Net("nets.py", "make", {}, (Tensor("x", "FP32", (1, 4)),), ("logits",), True)
CODE = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
"""
TRAINING = _training.Training(Recipe(epochs=1), "label", "")


@pytest.fixture
def code(bench: Bench) -> Path:
    torch.set_num_threads(1)
    folder = bench.folder()
    (folder / "nets.py").write_text(CODE)
    return folder


def rows(count: int) -> dict[str, Any]:
    """The class is that of the largest of the first three values."""
    x = np.random.default_rng(0).standard_normal((count, 4), np.float32)
    return {"x": x, "label": x[:, :3].argmax(axis=1)}


def weights(bench: Bench, useful: float = 1.0) -> Path:
    """Weights with which the net passes on three values (times `useful`) and their negatives."""
    from safetensors.torch import save_file

    first, last = torch.zeros(8, 4), torch.zeros(3, 8)
    for value in range(3):
        first[value, value], last[value, value] = useful, 1.0
        first[value + 3, value], last[value, value + 3] = -useful, -1.0
    first[6:] = 0.01  # two that say little, and that nobody reads
    tensors = {
        "0.weight": first,
        "0.bias": torch.zeros(8),
        "2.weight": last,
        "2.bias": torch.zeros(3),
    }
    folder = bench.folder()
    save_file(tensors, folder / _onnx.WEIGHTS)
    return folder


def test_the_channels_that_say_nothing_go_and_the_file_says_which(bench: Bench, code: Path) -> None:
    params = {"net": NET, "share": 0.25, "round_to": 1}
    out, facts = bench.run("prune", params=params, code=code, weights=weights(bench))
    assert json.loads((out / "pruned.json").read_text()) == {
        "0": {"out": {"of": 8, "removed": [6, 7]}},
        "2": {"in": {"of": 8, "removed": [6, 7]}},
    }
    assert facts.layers == {"0": (8, 6)}
    assert facts.macs == (4 * 8 + 8 * 3, 4 * 6 + 6 * 3)
    assert facts.parameters == (67, 51)
    assert facts.left == {"2": "its channels are the net's answer"}
    more = {**params, "share": 0.5}
    out, facts = bench.run("prune", params=more, code=code, weights=out)
    assert facts.layers == {"0": (8, 4)}
    assert facts.macs[0] == 56


def test_gradients_are_taken_on_the_training_rows(bench: Bench, code: Path) -> None:
    """Nobody reads the last two channels, so that their gradient is 0, however large they are."""
    data, large = bench.data("train", **rows(20)), weights(bench, useful=0.001)
    for criterion in ("taylor", "hessian"):
        params = {"net": NET, "share": 0.25, "round_to": 1, "criterion": criterion}
        out, _ = bench.run(
            "prune",
            params={**params, "training": TRAINING},
            code=code,
            weights=large,
            data=data,
        )
        assert json.loads((out / "pruned.json").read_text())["0"]["out"]["removed"] == [6, 7]


WIDE = """
from torch import nn

def make():
    body = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3))
"""


def test_a_share_of_the_time_is_measured_in_the_targets_runtime(bench: Bench, code: Path) -> None:
    from safetensors.torch import save_file

    from repo_builder.nets import factory

    net = Net("nets.py", "make", {}, (Tensor("x", "FP32", (1, 1, 64, 64)),), ("logits",), True)
    (code / "nets.py").write_text(WIDE)
    given = bench.folder()
    save_file(factory.make(code, net, None).state_dict(), given / _onnx.WEIGHTS)
    asked = {"share": 0.3, "of": "latency", "runtime": "openvino", "threads": 1}
    _, facts = bench.run("prune", params={"net": net, **asked}, code=code, weights=given)
    assert facts.achieved == facts.time.saved >= 0.3
    assert facts.time.dense_ms > facts.time.pruned_ms > 0
    assert facts.layers["2"][1] in (16, 32, 48)


def test_the_better_of_two_goes_on(bench: Bench, code: Path) -> None:
    data = bench.data("train", **rows(30))
    np.savez(data / "validation.npz", **rows(30))
    good, bad = weights(bench), weights(bench, useful=-1.0)
    params = {"net": NET, "training": TRAINING}
    for tuned, scratch, chosen in (
        (good, bad, "fine-tuned"),
        (bad, good, "from scratch"),
        (good, good, "fine-tuned"),
    ):
        out, facts = bench.run(
            "choose",
            params=params,
            code=code,
            data=data,
            dense=good,
            tuned=tuned,
            scratch=scratch,
        )
        assert facts.chosen == chosen
        assert (facts.dense, facts.rows, facts.higher_is_better) == (1.0, 30, True)
        assert max(facts.fine_tuned, facts.from_scratch) == 1.0
        assert (out / _onnx.WEIGHTS).read_bytes() == (good / _onnx.WEIGHTS).read_bytes()
