"""PyTorch nets as sources, end to end: built, cached, in a pipeline, with another as its cloud."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from workplace import SPECS, repo_builder

from repo_builder import targets
from repo_builder.spec.load import load
from repo_builder.spec.types import Spec

CODE = """
import torch
from blocks import Body

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = Body(width)
        self.head = torch.nn.Linear(width, 10)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, image):
        return {"logits": self.head(self.drop(self.body(image)))}

def make(width=8):
    return Net(width).train()
"""
BLOCKS = """
import torch

class Body(torch.nn.Sequential):
    def __init__(self, width):
        parts = (torch.nn.Conv2d(1, width, 3), torch.nn.BatchNorm2d(width), torch.nn.ReLU())
        super().__init__(*parts, torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())
"""
SPEC = """
name: {name}
version: 1.0.0
targets: [{targets}]
source:
  torch:
    factory: code/nets.py:make
    kwargs: {{width: {width}}}
    weights: {name}.safetensors
    inputs: {{image: [1, 1, 8, 8]}}
    outputs: [logits]
data:
  evaluation: {{path: evaluation.npz, metric: accuracy, outputs: {{scores: logits}}, samples: 64}}
preprocess: {{input: image, size: [8, 8], color: gray}}
"""
PIPELINE = """
kind: pipeline
name: read
version: 1.0.0
targets: [cpu]
inputs: [file]
steps:
  decode: {preprocess: small, inputs: {file: file}}
  guess: {model: small, inputs: {image: decode.image}}
  best: {top_k: {k: 3, labels: labels.txt}, inputs: {scores: guess.logits}}
outputs: {label: best.label, logits: guess.logits}
sample: {file: digit.png}
"""


def lay_out(folder: Path) -> Path:
    """Two nets of one factory, `small` with `big` as its cloud, and a pipeline of the small one."""
    import torch
    from safetensors.torch import save_file

    (folder / "code").mkdir(parents=True)
    (folder / "code" / "nets.py").write_text(CODE)
    (folder / "code" / "blocks.py").write_text(BLOCKS)
    for name, width, target, seed in (("small", 8, "cpu", 1), ("big", 16, "cpu-openvino", 2)):
        more = "fallback: {threshold: 0.5, cloud: big}\n" if name == "small" else ""
        text = SPEC.format(name=name, width=width, targets=target) + more
        (folder / f"{name}.yaml").write_text(text)
        state = {
            "body.0.weight": (width, 1, 3, 3),
            **dict.fromkeys(("body.0.bias", "body.1.weight", "body.1.bias"), (width,)),
            **dict.fromkeys(("body.1.running_mean", "body.1.running_var"), (width,)),
            "head.weight": (10, width),
            "head.bias": (10,),
        }
        torch.manual_seed(seed)
        tensors = {key: torch.rand(shape) for key, shape in state.items()}
        tensors["body.1.num_batches_tracked"] = torch.tensor(1)
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "read.yaml").write_text(PIPELINE)
    (folder / "labels.txt").write_text("".join(f"{n}\n" for n in range(10)))
    shutil.copy(SPECS / "digits/evaluation.npz", folder)
    shutil.copy(next(SPECS.glob("**/*.png")), folder / "digit.png")
    return folder


class Place:
    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store, self.out = folder, store, folder / "build"

    def run(self, command: str, *options: object) -> Any:
        where = ("--store", self.store)
        if command == "build":
            where = (*where, "--out", self.out, "--no-images")
        return repo_builder(command, self.folder, *where, *options)

    def build(self, *options: object) -> dict[str, dict[str, Any]]:
        ended = self.run("build", "--json", *options)
        assert ended.returncode == 0, ended.stderr
        return {row["id"]: row for row in json.loads(ended.stdout)["rows"]}

    def steps_to_run(self) -> dict[tuple[str, str], str]:
        ended = self.run("plan", "--json")
        assert ended.returncode == 0, ended.stderr
        lines = json.loads(ended.stdout)
        return {(line["id"], line["step"]): line["why"] for line in lines if not line["cached"]}


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Place:
    if importlib.util.find_spec("torch") is None:
        unavailable("no torch; pip install 'repo-builder[torch]'")
    folder = tmp_path_factory.mktemp("nets")
    place = Place(lay_out(folder / "specs"), folder / "store")
    ended = place.run("build")
    assert ended.returncode == 0, ended.stderr
    assert "leaked" not in ended.stderr
    return place


def test_a_net_is_built_proven_and_told_where_it_comes_from(built: Place) -> None:
    rows = {row["id"]: row for row in json.loads((built.out / "report.json").read_text())["rows"]}
    assert {id_: row["status"] for id_, row in rows.items()} == {
        "small@cpu": "built",
        "big@cpu-openvino": "built",
        "read@cpu": "built",
    }
    assert rows["small@cpu"]["score"]["drop"] == 0
    assert rows["small@cpu"]["confidence"] is not None
    manifest = json.loads((built.out / "cpu/manifest.json").read_text())["models"]["small"]
    assert set(manifest["provenance"]["source"]) == {"nets.py", "blocks.py", "weights.safetensors"}
    assert {"torch", "onnxscript"} <= set(manifest["tools"])
    config = (built.out / "cpu/models/small/config.pbtxt").read_text()
    assert 'name: "logits"' in config
    assert "max_batch_size: 16" in config
    ensemble = (built.out / "cpu/models/read/config.pbtxt").read_text()
    assert "TYPE_FP32" in ensemble
    assert "dims: [10]" in ensemble.replace("\n", "").replace("  ", "")


def test_the_second_build_does_nothing(built: Place) -> None:
    assert not built.steps_to_run()
    assert {row["status"] for row in built.build().values()} == {"cached"}


def test_another_checkout_has_every_result_in_the_store(built: Place, tmp_path: Path) -> None:
    other = Place(shutil.copytree(built.folder, tmp_path / "elsewhere"), built.store)
    shutil.rmtree(other.out)
    rows = other.build()
    assert {row["status"] for row in rows.values()} == {"cached"}


def test_a_change_reaches_what_is_made_of_it(built: Place, tmp_path: Path) -> None:
    place = Place(shutil.copytree(built.folder, tmp_path / "changed"), built.store)
    blocks = place.folder / "code" / "blocks.py"
    (place.folder / "code" / "unused.py").write_text("never = 'imported'\n")
    assert not place.steps_to_run()
    blocks.write_text(blocks.read_text() + "\n# changed\n")
    assert place.steps_to_run()["big@cpu-openvino", "export"] == "blocks.py changed"
    blocks.write_text(BLOCKS)
    spec = place.folder / "big.yaml"
    spec.write_text(spec.read_text().replace("width: 16", "width: 12"))
    assert place.steps_to_run()["big@cpu-openvino", "export"] == "net.kwargs.width 16 -> 12"
    spec.write_text(spec.read_text().replace("width: 12", "width: 16"))
    shutil.copy(place.folder / "big.safetensors", place.folder / "small.safetensors")
    why = place.steps_to_run()
    assert why["small@cpu", "export"] == "small.safetensors changed"
    assert ("big@cpu-openvino", "export") not in why


def test_a_net_that_cannot_be_made_is_one_line_with_the_user_s_paths(
    built: Place, tmp_path: Path
) -> None:
    place = Place(shutil.copytree(built.folder, tmp_path / "broken"), built.store)
    weights = place.folder / "small.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    ended = place.run("build", "--only", "small", "--json")
    assert ended.returncode == 6
    (row,) = [row for row in json.loads(ended.stdout)["rows"] if row["id"] == "small@cpu"]
    assert row["status"] == "failed"
    assert "small.safetensors is cut short, or no safetensors file" in row["reason"]
    assert "\n" not in row["reason"]


def test_data_and_devices_are_judged_by_what_the_spec_says_of_a_net(
    built: Place, tmp_path: Path
) -> None:
    spec = built.folder / "small.yaml"
    np.save(tmp_path / "x.npy", np.zeros((20, 1, 8, 9), np.float32))
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    rows = (tmp_path / "x.npy", "--label", tmp_path / "y.npy")
    ended = repo_builder("data", "from-npy", *rows, "--spec", spec, "--out", "made", cwd=tmp_path)
    assert ended.returncode == 5
    assert "'image'" in ended.stderr
    ended = repo_builder("targets", "advise", spec, "--target", "cpu", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)


def test_init_writes_a_spec_that_is_what_was_written_by_hand(built: Place, tmp_path: Path) -> None:
    folder = shutil.copytree(built.folder, tmp_path / "first", ignore=lambda *_: ["build"])
    asked = ("init", "code/nets.py:make", "--weights", "small.safetensors")
    shape = ("--input", "image=1,1,8,8")
    ended = repo_builder(*asked, *shape, "--kwarg", "width=8", "--out", "first.yaml", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    first, small = (
        load([folder / f"{name}.yaml"], targets.load(None))[0] for name in ("first", "small")
    )
    assert isinstance(first, Spec)
    assert isinstance(small, Spec)
    assert first.source == small.source
    assert first.evaluation is not None
    assert (first.evaluation.path, first.evaluation.metric) == (
        folder / "evaluation.npz",
        "accuracy",
    )
    assert "torchvision" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["code/nets.py"], "'code/nets.py' names no file and function; write `code/nets.py:make`"),
        (["code/gone.py:make"], "no such file: code/gone.py"),
        (["code/nets.py:make"], "takes (image): --input image=1,3,224,224"),
        (["code/nets.py:make", "--input", "x=a"], "--input x=a: write NAME=1,3,224,224"),
        (["code/nets.py:make", "--input", "x=1:float"], "inputs.x.dtype: unknown value 'float'"),
        (["code/nets.py:make", "--kwarg", "width"], "--kwarg width: write NAME=VALUE"),
        (["code/nets.py:make", "--weights", "w.pt"], "save_file(state.get("),
        (["code/nets.py:make", "--weights", "w.safetensors"], "w.safetensors: no such file"),
        (["net.onnx", "--input", "x=1"], "are for a PyTorch net: name it NETS.py:FUNCTION"),
    ],
)
def test_init_says_what_is_wrong_or_missing_in_one_line(
    built: Place, arguments: list[str], said: str
) -> None:
    ended = repo_builder("init", *arguments, "--out", "new.yaml", cwd=built.folder)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (built.folder / "new.yaml").exists()
