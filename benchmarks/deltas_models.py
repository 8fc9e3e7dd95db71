"""The fine-tuned networks of `deltas.py`: trained, exported, and built as int8 by the product."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from sklearn.datasets import load_digits
from torch import nn

SIZES = {
    "2 M": ((64, 128, 256, 512), 1024),
    "20 M": ((128, 256, 512, 1024, 1536), 0),
}
"""Channels of the convolutions, and of a hidden dense layer if there is one."""

TUNED: dict[str, Callable[[object], torch.optim.Optimizer]] = {
    "SGD 1e-4": lambda p: torch.optim.SGD(p, 1e-4, momentum=0.9),
    "AdamW 1e-5": lambda p: torch.optim.AdamW(p, 1e-5),
    "AdamW 1e-4": lambda p: torch.optim.AdamW(p, 1e-4),
    "AdamW 1e-3": lambda p: torch.optim.AdamW(p, 1e-3),
}

BUILT = {
    "int8 cpu": "cpu/models/m/1000000/model.onnx",
    "int8 OpenVINO": "cpu-openvino/models/m/1000000/model.bin",
    "int8 QNN": "snapdragon-qcs8275/models/m/1000000/model_qnn.bin",
    "int8 Vela": "ethos-u85/bundles/m/1.0.0/model_vela.tflite",
}

TARGETS = {
    "2 M": "cpu, cpu-openvino, snapdragon-qcs8275, ethos-u85",
    "20 M": "cpu, cpu-openvino, ethos-u85",  # QNN's simulator takes a quarter of an hour for each
}

FLOATS = """name: m
version: 1.0.0
source: {{onnx: fp32.onnx}}
targets: [cpu]
data:
  evaluation: {{path: ../evaluation.npz, metric: accuracy, outputs: {{scores: y}}}}
gates: {{max_accuracy_drop: 0.005}}
release: {{{near}}}
"""

SPEC = """name: m
version: 1.0.0
source: {{onnx: fp32.onnx}}
targets: [{targets}]
data:
  calibration: {{path: ../calibration.npz, samples: 200}}
  evaluation: {{path: ../evaluation.npz, metric: accuracy, outputs: {{scores: y}}}}
optimize: {{precision: int8}}
"""


def artifacts(folder: Path, size: str, how: str) -> dict[str, Path]:
    """Every file made of one version (`v1`, or a key of `TUNED`), by its kind."""
    place = folder / f"{size}-{how}".replace(" ", "")
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "fp16.onnx").exists():
        _export(trained(folder, size, how), place)
    _build(folder, place, "build", SPEC.format(targets=TARGETS[size]))
    found = {"fp32": place / "fp32.onnx", "fp16": place / "fp16.onnx"}
    found |= {kind: place / "build" / path for kind, path in BUILT.items()}
    return {kind: path for kind, path in found.items() if path.exists()}


def near(folder: Path, size: str, how: str) -> tuple[Path, Path, str]:
    """The fp32 model that devices have, the one built near it, and what the report says of that."""
    before, after = (folder / f"{size}-{version}".replace(" ", "") for version in ("v1", how))
    served = "cpu/models/m/1000000/model.onnx"
    _build(folder, before, "floats", FLOATS.format(near=""))
    base = (before / "floats" / served).resolve()
    _build(folder, after, "near", FLOATS.format(near=f"near: {base}"))
    (row,) = json.loads((after / "near" / "report.json").read_text())["rows"]
    return base, after / "near" / served, "; ".join(row["notes"])


def _build(folder: Path, place: Path, out: str, spec: str) -> None:
    """Build a spec in `place` into its folder `out`, unless that is there."""
    if (place / out / "report.json").exists():
        return
    (place / f"{out}.yaml").write_text(spec)
    command = [sys.executable, "-m", "repo_builder", "build", f"{out}.yaml", "--out", out]
    command += ["--store", str(folder.resolve() / "store"), "--no-images"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{place.name}: {done.stderr[-400:]}", file=sys.stderr)


def trained(folder: Path, size: str, how: str) -> nn.Module:
    """`v1`: four epochs of AdamW on half the images. Others: from there, one on the other half."""
    kept = folder / f"{size}-{how}.pt".replace(" ", "")
    net = _net(*SIZES[size])
    if not kept.exists():
        x, y = _digits(folder)
        torch.manual_seed(1)
        if how == "v1":
            _epochs(net, torch.optim.AdamW(net.parameters(), 1e-3), x[:700], y[:700], 4)
        else:
            net = trained(folder, size, "v1")
            _epochs(net, TUNED[how](net.parameters()), x[700:1400], y[700:1400], 1)
        torch.save(net.state_dict(), kept)
    net.load_state_dict(torch.load(kept, weights_only=True))
    return net.eval()


def _digits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, y = (images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels[order]
    np.savez(folder / "calibration.npz", x=x[:200])
    np.savez(folder / "evaluation.npz", x=x[1400:], label=y[1400:])
    return torch.tensor(x), torch.tensor(y)


def _net(channels: tuple[int, ...], hidden: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 1
    for number, out in enumerate(channels):
        layers += [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        if number == 0:
            layers.append(nn.MaxPool2d(2))
        width = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden or width, 10))


def _epochs(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, count: int
) -> None:
    net.train()
    for _ in range(count):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()


def _export(net: nn.Module, place: Path) -> None:
    example = (torch.zeros(1, 1, 8, 8),)
    names = {"input_names": ["x"], "output_names": ["y"]}
    axes = {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(net, example, str(place / "fp32.onnx"), dynamo=False, **names, **axes)
    model = onnx.load(place / "fp32.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    onnx.save(model, place / "fp16.onnx")
