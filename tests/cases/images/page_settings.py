"""What a reader of each page has before its first command: models, data, a checkout, servers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from image_kit import ROOT
from PIL import Image
from terminal import Terminal

from repo_builder.base import digest
from repo_builder.trt.record import Device, Record

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
# Whether an image is light.
LIGHT = """(float[n, 3, 8, 8] image) => (float[n, 2] scores)
<float[3, 2] w = {-40.0, 40.0, 0.0, 0.0, 0.0, 0.0}, float[2] b = {-2.0, 2.0}>
{ p = GlobalAveragePool(image) f = Flatten(p) m = MatMul(f, w) a = Add(m, b)
  scores = Softmax(a) }"""
FLOWERS = """(float[n, 4] x) => (float[n, 3] logits)
<float[4, 3] w = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0}>
{ logits = MatMul(x, w) }"""
# Counts what it hears.
VAD = """(float[1, 8] input, float[1, 1] state) => (float[1, 1] heard, float[1, 1] stateN)
<int64[1] axis = {1}>
{ loud = ReduceMax <axes = [1]> (input) stateN = Add(state, loud) heard = Sigmoid(stateN) }"""
SPEC = """name: {name}
version: 1.0.0
source: {{onnx: {model}.onnx}}
targets: [cpu]
"""
MISTAKES = {
    "a": "nam: a\nversion: 1.0.0\nsource: {onnx: a.onnx}\ntargets: [cpu]\n"
    "optimize: {precision: int9}\n",
    "b": "name: b\nversion: 1.0.1000\nsource: {onnx: b.onnx}\ntargets: [cpu]\n",
}
NETS = """
import torch
def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
"""
SAVE = """
import sys
sys.path.insert(0, ".")
from nets import make
from safetensors.torch import save_file
save_file(make().state_dict(), "w.safetensors")
"""
BUILD = "repo-builder build model_specs/"
# Before a page's Python: what an application has already.
APPLICATION = """
import numpy as np
from repo_builder.client import EdgeClient
images = np.load("model_specs/digits/evaluation.npz")["image"][:8]
"""


@dataclass(frozen=True)
class Examples:
    """Where README's reader built all examples, what that printed, and the store it is in."""

    opened: Terminal
    cache: Path
    printed: str


@dataclass(frozen=True)
class Setting:
    """Of a page; `builds` where it builds the examples, `engine` where it needs containers."""

    begin: Callable[[Terminal], None]
    builds: bool = False
    engine: bool = False
    before_python: str = APPLICATION
    others: dict[str, str] = field(default_factory=dict)


def examples(opened: Terminal, folder: str = "model_specs") -> None:
    opened.run(f"repo-builder examples copy {folder}")


def built(opened: Terminal) -> None:
    examples(opened)
    opened.run("repo-builder build model_specs --target cpu")


def net(opened: Terminal, name: str, text: str) -> None:
    onnx.save(onnx.parser.parse_model(HEAD + text), opened.place / f"{name}.onnx")


def spec(opened: Terminal, name: str, model: str, more: str = "") -> None:
    (opened.place / f"{name}.yaml").write_text(SPEC.format(name=name, model=model) + more)


def checkout(opened: Terminal) -> None:
    copy_checkout(opened.place)


def copy_checkout(folder: Path) -> None:
    for name in ("README.md", "LICENSE", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    for name in ("repo_builder", "templates", "dockerfiles", "model_specs", "compose"):
        hidden = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=hidden, dirs_exist_ok=True)


def readme(opened: Terminal) -> None:
    checkout(opened)
    (opened.place / "specs").mkdir()
    for name, text in MISTAKES.items():
        (opened.place / "specs" / f"{name}.yaml").write_text(text)
        (opened.place / "specs" / f"{name}.onnx").touch()


def client(opened: Terminal) -> None:
    built(opened)
    shutil.copy(opened.place / "model_specs/digits/sample.png", opened.place)
    (opened.place / "token").write_text("secret")
    net(opened, "vad", VAD)
    opened.run("repo-builder init vad.onnx")
    opened.run("repo-builder build vad.yaml model_specs --target cpu")
    opened.run("repo-builder serve build/cpu")


def plan(opened: Terminal) -> None:
    (opened.place / "model.plan").write_bytes(b"plan")
    device = Device("10.3.0.30", "8.7", "Orin", "linux-aarch64")
    (opened.place / "device.json").write_text(json.dumps(asdict(device)))
    made = digest.of_file(opened.place / "model.plan")
    fits = Record(
        made, "0" * 64, **asdict(device), version_compatible=False, hardware="none", dla_core=None
    )
    fits.write(opened.place)


def photos(opened: Terminal) -> None:
    random = np.random.default_rng(0)
    for name, red in {"dark": 0.44, "light": 0.49}.items():
        folder = opened.place / "photos" / name
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(random.normal(red * 255, 5, (9, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    net(opened, "net", LIGHT)


def table(opened: Terminal) -> None:
    rows = np.random.default_rng(1).random((60, 4)).astype(np.float32)
    species = [("setosa", "versicolor", "virginica")[row[:3].argmax()] for row in rows]
    lines = [",".join((*map(str, row), kind)) for row, kind in zip(rows, species, strict=True)]
    header = "sepal_length,sepal_width,petal_length,petal_width,species"
    (opened.place / "iris.csv").write_text("\n".join((header, *lines)) + "\n")
    net(opened, "flowers", FLOWERS)


def data(opened: Terminal) -> None:
    photos(opened)
    table(opened)
    spec(opened, "digits", "net", "preprocess: {input: image, size: [8, 8]}\n")
    spec(opened, "iris", "flowers")
    spec(opened, "waves", "flowers")
    rows = np.load(ROOT / "model_specs/digits/evaluation.npz")["image"].reshape(-1, 4)[:60]
    np.save(opened.place / "x.npy", rows)
    np.save(opened.place / "y.npy", np.arange(60) % 3)


def first_specs(opened: Terminal) -> None:
    photos(opened)
    table(opened)
    shutil.move(opened.place / "net.onnx", opened.place / "light.onnx")
    net(opened, "net", FLOWERS)
    (opened.place / "nets.py").write_text(NETS)
    opened.python(SAVE)


def cluster(opened: Terminal) -> None:
    checkout(opened)
    shutil.rmtree(opened.place / "model_specs")
    examples(opened)
    for other in (opened.place / "model_specs").glob("*.yaml"):
        if other.name != "digits-large.yaml":
            other.unlink()
    opened.environment["XDG_CACHE_HOME"] = str(opened.folder / "cache")  # nothing is built yet


def target_file(opened: Terminal) -> None:
    examples(opened, "specs")
    for other in (opened.place / "specs").glob("*.yaml"):
        other.unlink()
    text = (ROOT / "model_specs/vibration.yaml").read_text()
    named = text.replace("  - raspberry-pi-5\n", "  - raspberry-pi-5\n  - line-camera\n")
    (opened.place / "specs" / "vibration.yaml").write_text(named)


def lint(opened: Terminal) -> None:
    built(opened)
    shutil.copytree(opened.place / "build/cpu/models/digits", opened.place / "my-models/digits")


def operations(opened: Terminal) -> None:
    checkout(opened)
    examples(opened, "specs")
    opened.run("pip install .")
    opened.environment["GITHUB_STEP_SUMMARY"] = str(opened.folder / "summary.md")


def pipelines(opened: Terminal) -> None:
    shutil.copytree(ROOT / "benchmarks", opened.place / "benchmarks")
    shutil.copytree(ROOT / "model_specs", opened.place / "model_specs")


def deploy(opened: Terminal) -> None:
    examples(opened)
    shutil.copy(ROOT / "compose/edge.yaml", opened.place)


# Most pages begin with the examples.
OTHERWISE = Setting(examples, builds=True)
SETTINGS = {
    "accelerators.md": Setting(plan),
    "README.md": Setting(readme, builds=True, engine=True),
    "client.md": Setting(
        client,
        builds=True,
        before_python=APPLICATION
        + "camera_frames, show, microphone = images, print, np.zeros((3, 1, 8), np.float32)\n"
        "client = EdgeClient('localhost:8001')\n",
    ),
    "cluster.md": Setting(cluster, others={"10.0.0.1": "127.0.0.1"}),
    "data.md": Setting(data),
    "deploy.md": Setting(deploy, builds=True, engine=True),
    "images.md": Setting(examples, builds=True, engine=True),
    "lint.md": Setting(lint, builds=True),
    "operations.md": Setting(operations, builds=True),
    "own-targets.md": Setting(target_file, builds=True),
    "pipelines.md": Setting(pipelines, builds=True),
    "serving.md": Setting(built, builds=True, before_python=""),
    "specs.md": Setting(first_specs),
}
