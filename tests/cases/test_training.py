"""Nets that a build trains and teaches: end to end, killed on the way, and refused."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from workplace import repo_builder

CODE = """
import torch

def make(width):
    return torch.nn.Sequential(
        torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU(),
        torch.nn.Linear(width, CLASSES),
    )
"""
LOSS = """
import torch

def loss(outputs, arrays):
    return torch.nn.functional.cross_entropy(outputs["logits"], arrays["label"])

def breaks(outputs, arrays):
    return outputs["logits"].sum() * float("nan")
"""
SPEC = """
name: {name}
version: 1.0.0
targets: [cpu]
source:
  torch:
    factory: {name}_net.py:make
    kwargs: {{width: {width}}}
    inputs: {{x: [1, 4]}}
    outputs: [logits]
data:
  evaluation: {{path: evaluation.npz, metric: accuracy, outputs: {{scores: logits}}}}
optimize:
  train:
    {{data: train.npz, validation: validation.npz, learning_rate: 0.02, epochs: {epochs}, {more}}}
"""


def rows(count: int, seed: int) -> dict[str, Any]:
    """Points about three corners, with the corner as the class."""
    random = np.random.default_rng(seed)
    label = random.integers(3, size=count)
    corners = np.array([[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0]], np.float32)
    return {"x": corners[label] + random.standard_normal((count, 4), np.float32), "label": label}


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "specs").mkdir(parents=True)
        for seed, name in enumerate(("train", "validation", "evaluation")):
            np.savez_compressed(folder / "specs" / f"{name}.npz", **rows(200, seed))
        (folder / "specs" / "loss.py").write_text(LOSS)

    def net(
        self,
        name: str,
        width: int,
        distill: str = "",
        *,
        classes: int = 3,
        epochs: int = 5,
        more: str = "",
    ) -> None:
        (self.folder / "specs" / f"{name}_net.py").write_text(CODE.replace("CLASSES", str(classes)))
        text = SPEC.format(name=name, width=width, epochs=epochs, more=more)
        (self.folder / "specs" / f"{name}.yaml").write_text(text + distill)

    @property
    def arguments(self) -> list[str]:
        where = ("--store", self.folder / "store", "--out", self.folder / "build", "--no-images")
        return [str(part) for part in ("build", self.folder / "specs", *where)]

    def build(self, *options: str) -> Any:
        return repo_builder(*self.arguments, *options)

    def built(self, *options: str) -> dict[str, dict[str, Any]]:
        ended = self.build("--json", *options)
        assert ended.returncode == 0, ended.stderr
        return {row["name"]: row for row in json.loads(ended.stdout)["rows"]}

    def entries(self, step: str) -> list[dict[str, Any]]:
        """What the store has of steps of one kind."""
        files = (self.folder / "store").glob("entries/**/*.json")
        entries = [json.loads(file.read_text().partition("\n")[2]) for file in files]
        return [entry for entry in entries if entry["recipe"]["step"] == step]

    def facts(self, step: str) -> list[dict[str, Any]]:
        """What steps of one kind found out."""
        return [entry["facts"] for entry in self.entries(step)]

    def weights(self) -> list[str]:
        """The digests of all trained weights."""
        return [entry["files"]["weights.safetensors"][0] for entry in self.entries("train")]


@pytest.fixture
def place(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Place:
    if importlib.util.find_spec("torch") is None:
        unavailable("torch is not installed")
    return Place(tmp_path)


def test_a_teacher_and_its_student_are_trained_once(place: Place) -> None:
    place.net("large", 32)
    place.net("small", 2, "  distill: {teacher: large, temperature: {start: 4, end: 2}}\n")
    made = place.built()
    assert made["large"]["score"]["built"] > 0.8
    assert made["small"]["score"]["built"] > 0.5
    histories = [facts["history"] for facts in place.facts("train")]
    assert [len(history) for history in histories] == [5, 5]
    (soft,) = place.facts("soft-targets")
    assert soft == {"rows": 200, "shapes": {"logits": [3]}}
    assert not list((place.folder / "store" / "training").iterdir())
    ended = place.build()
    assert "nothing changed" in ended.stderr
    place.net("small", 2, "  distill: {teacher: large, temperature: 8}\n")
    place.built()
    assert len(place.facts("train")) == 3  # the teacher is as it was
    assert len(place.facts("soft-targets")) == 1


def test_a_build_that_was_killed_goes_on_with_its_training(tmp_path: Path, place: Place) -> None:
    place.net("large", 8, epochs=150)
    with subprocess.Popen(
        [sys.executable, "-m", "repo_builder", *place.arguments],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    ) as child:
        kept = place.folder / "store" / "training"
        while not (kept.is_dir() and any(kept.glob("*.safetensors"))):
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
    assert list(kept.glob("*.safetensors"))
    assert place.facts("train") == []
    place.built()
    logs = [log.read_text() for log in (place.folder / "store" / "logs").glob("*.log")]
    (told,) = (log for log in logs if "progress: epoch" in log)
    assert "progress: epoch 150/150, loss " in told
    assert "progress: epoch 1/150" not in told
    whole = Place(tmp_path / "whole")
    whole.net("large", 8, epochs=150)
    whole.built()
    assert place.weights() == whole.weights()
    assert place.facts("train") == whole.facts("train")


def test_a_loss_that_is_no_number_is_told_in_one_line(place: Place) -> None:
    place.net("small", 2, more="own: {file: loss.py, function: breaks}")
    ended = place.build()
    assert ended.returncode == 6
    said = " ".join((ended.stderr + ended.stdout).split())
    assert "the loss is nan in epoch 1, batch 1; lower the learning rate, or look at the" in said
    assert "Traceback" not in said


def test_features_of_a_teacher_that_is_an_onnx_file_and_rows_without_labels(place: Place) -> None:
    """The teacher is the first net's own ONNX; half of the rows have no label."""
    place.net("large", 32)
    place.built()
    (exported,) = (place.folder / "build" / "cpu" / "models" / "large").glob("*/model.onnx")
    import onnx

    teacher = place.folder / "specs" / "teacher.onnx"
    teacher.write_bytes(exported.read_bytes())
    (hidden,) = (n.output[0] for n in onnx.load(teacher).graph.node if n.op_type == "Relu")
    (place.folder / "specs" / "large.yaml").unlink()
    given = rows(200, 0)
    given["label"][::2] = -1
    np.savez_compressed(place.folder / "specs" / "train.npz", **given)
    place.net("small", 2, f"  distill: {{teacher: teacher.onnx, features: {{'2': '{hidden}'}}}}\n")
    made = place.built()
    assert made["small"]["score"]["built"] > 0.5
    (soft,) = place.facts("soft-targets")
    assert soft["shapes"] == {"logits": [3], hidden: [32]}
    (facts,) = (f for f in place.facts("train") if f["parameters"] < 40)
    assert facts["history"][-1]["loss"] < facts["history"][0]["loss"]
