"""Pruned nets, end to end: smaller, beside their twin and their parent, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from workplace import repo_builder

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        first, second = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.first = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(second, nn.BatchNorm2d(width))
        self.head = nn.Linear(width, 2)

    def forward(self, image):
        return self.head(self.second(self.first(image)).relu().mean((2, 3)))

def make(width):
    return Net(width)
"""
SPEC = """
name: stripes
version: 1.0.0
targets: [cpu]
source:
  torch:
    factory: nets.py:make
    kwargs: {{width: 64}}
    inputs: {{image: [1, 1, 16, 16]}}
    outputs: [logits]
data:
  evaluation: {{path: evaluation.npz, metric: accuracy, outputs: {{scores: logits}}}}
gates: {{max_accuracy_drop: 0.5}}
optimize:
  train: {{data: train.npz, validation: validation.npz, epochs: {epochs}, learning_rate: 0.003}}
  prune: {prune}
"""


def rows(count: int, seed: int) -> dict[str, Any]:
    """Stripes across or along, under noise."""
    random = np.random.default_rng(seed)
    label = random.integers(2, size=count)
    wave = np.sin(np.arange(16) * 1.5)[None, :] * np.ones((16, 1))
    image = np.where(label[:, None, None] == 1, wave, wave.T) + random.normal(
        0, 0.7, (count, 16, 16)
    )
    return {"image": image[:, None].astype(np.float32), "label": label}


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "specs").mkdir(parents=True)
        for seed, name in enumerate(("train", "validation", "evaluation")):
            np.savez_compressed(folder / "specs" / f"{name}.npz", **rows(64, seed))
        (folder / "specs" / "nets.py").write_text(CODE)

    def build(self, prune: str, *, epochs: int = 2) -> Any:
        text = SPEC.format(prune=prune, epochs=epochs)
        (self.folder / "specs" / "stripes.yaml").write_text(text)
        where = ("--store", self.folder / "store", "--out", self.folder / "build", "--no-images")
        return repo_builder("build", *map(str, (self.folder / "specs", *where)), "--json")

    def facts(self, step: str) -> list[dict[str, Any]]:
        files = (self.folder / "store").glob("entries/**/*.json")
        entries = [json.loads(file.read_text().partition("\n")[2]) for file in files]
        return [entry["facts"] for entry in entries if entry["recipe"]["step"] == step]


@pytest.fixture
def place(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Place:
    if importlib.util.find_spec("torch_pruning") is None:
        unavailable("torch-pruning is not installed")
    return Place(tmp_path)


def test_a_net_is_trained_pruned_and_tuned_beside_its_twin_and_its_parent(place: Place) -> None:
    ended = place.build("{share: 0.5, iterations: 2}", epochs=2)
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads(ended.stdout)["rows"]
    cuts = sorted(place.facts("prune"), key=lambda facts: facts["ratio"])
    assert [cut["layers"]["first.0"] for cut in cuts] == [[64, 48], [64, 32]]
    assert cuts[1]["macs"] == [256 * 9 * (64 + 64 * 64) + 64 * 2, 256 * 9 * (32 + 32 * 32) + 32 * 2]
    trained = place.facts("train")
    epochs = sorted((len(facts["history"]), facts["parameters"]) for facts in trained)
    small, dense = 32 * 9 + 32 * 32 * 9 + 64 + 128 + 66, 64 * 9 + 64 * 64 * 9 + 128 + 256 + 130
    assert [one for one in epochs if one[1] in (small, dense)] == [
        (1, small),
        (2, dense),
        (4, small),
    ]
    (chosen,) = place.facts("choose")
    assert chosen["rows"] == 64
    (export,) = [facts for facts in place.facts("export") if facts["parameters"] == small]
    assert max(export["differs"].values()) < 1e-4
    (profile,) = place.facts("profile")
    assert profile["parent"]["faster"] > 1
    (note,) = [note for note in row["notes"] if note.startswith("pruned, ")]
    assert "pruned, 49% of the channels, 75% of the multiplications" in note
    assert "as fast as its parent" in note
    manifest = json.loads((place.folder / "build/cpu/manifest.json").read_text())
    (model,) = manifest["models"].values()
    assert model["pruned"]["scores"] == chosen
    assert model["pruned"]["layers"]["second.0"] == [64, 32]


def test_a_layer_that_is_not_there_is_told_in_one_line(place: Place) -> None:
    ended = place.build("{share: 0.5, keep: [third]}", epochs=1)
    assert ended.returncode == 6
    said = "".join(ended.stderr.split())
    assert "".join("`keep` has 'third', which is no layer of the net; one of:".split()) in said
    assert "Traceback" not in said
