"""`repo-builder family`, end to end: members are trained and built, and the front is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from workplace import repo_builder

CODE = """
import torch

def make(width):
    return torch.nn.Sequential(
        torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 4))
"""
SPEC = """
name: rings
version: 1.0.0
targets: [cpu]
source:
  torch: {factory: "net.py:make", kwargs: {width: 4}, inputs: {x: [1, 8]}, outputs: [logits]}
data:
  evaluation: {path: evaluation.npz, metric: accuracy, outputs: {scores: logits}}
optimize:
  precision: fp32
  train: {data: train.npz, epochs: 15, batch_size: 50, learning_rate: 0.01}
family:
  scale: {width: {argument: width, round_to: 4}, beta: 2, phi: [0, 2]}
"""


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    """Which pair of eight values is the largest: more than four hidden units can tell."""
    x = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return {"x": x, "label": (x**2).reshape(count, 4, 2).sum(axis=2).argmax(axis=1)}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    np.savez(tmp_path / "train.npz", **rows(1500, 0))
    np.savez(tmp_path / "evaluation.npz", **rows(500, 1))
    file = tmp_path / "rings.yaml"
    file.write_text(SPEC)
    return file


def test_members_are_built_and_compared(spec: Path, tmp_path: Path) -> None:
    where = ["--store", tmp_path / "store", "--out", tmp_path / "build"]
    plot = tmp_path / "front.svg"
    ended = repo_builder(
        "family", spec, "--target", "cpu", "--build", *where, "--plot", plot, "--json"
    )
    assert ended.returncode == 0, ended.stderr
    small, large = json.loads(ended.stdout)
    assert (small["member"], large["member"]) == ("rings-width4", "rings-width16")
    assert large["score"] > small["score"] + 0.1  # 16 hidden units are better at this than 4
    assert small["bytes"] < large["bytes"]
    assert large["on_front"]
    assert large["measured"]
    assert plot.read_text().startswith("<svg xmlns=")
    assert spec.with_name("rings-width16.yaml").exists()
    again = repo_builder("build", spec.with_name("rings-width16.yaml"), *where)
    assert again.returncode == 0, again.stderr
    assert "train" not in again.stderr  # a member is an ordinary spec, and was made before


def test_what_does_not_go_together(spec: Path, tmp_path: Path) -> None:
    for options, said in (
        (["--build", "--fit"], "--build and --fit are two things"),
        (["--plot", tmp_path / "a.svg"], "--plot draws scores: add --build or --fit"),
        (["--mode", "15W"], "cpu has no power mode '15W'; it has: none"),
        (["--latency-ms", "0.0001", "--build"], "no member fits"),
    ):
        ended = repo_builder("family", spec, "--target", "cpu", *options)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == ["rings.yaml"]


def test_a_net_that_cannot_be_made_is_one_line(spec: Path) -> None:
    spec.with_name("net.py").write_text("def make(width):\n    raise ValueError('too wide')\n")
    ended = repo_builder("family", spec, "--target", "cpu")
    assert ended.returncode != 0
    assert "too wide" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom repo_builder.__main__ import main\n"
        "try:\n    sys.argv = ['x', 'family', '--help']\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'onnx', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
