"""Structured pruning of a MobileNetV2-like net: its time in ONNX Runtime, and what it costs.

    python benchmarks/pruning.py           # minutes: times alone
    python benchmarks/pruning.py --train   # half an hour on one core: accuracy too

Times are of one image of 160 x 160 pixels on one thread: the least processor time of many runs, all
nets in turns within one run, so that only their ratios count. `naive` is what torch-pruning leaves
at the same share of channels without rounding.

Accuracy is of the same net on pictures that are drawn here: one of ten shapes, of varied size,
place, turn and colours, under noise, on 48 x 48 pixels, so that a processor trains it in minutes.
The dense net and the pruned one are scored on the same rows, which no training has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import nn

from repo_builder.nets import costs
from repo_builder.nets.prune import Request, prune
from repo_builder.nets.train import Recipe, Rows, fit

SHARE = 0.3
WANTED = 0.50
LOST = 0.01
ROUNDS = 25
TIMED, TRAINED = 160, 48
ROWS = {"train": 3000, "validation": 500, "test": 3000}
DENSE_EPOCHS, TUNING_EPOCHS = 14, 7

Array = npt.NDArray[Any]


class Bottleneck(nn.Module):  # type: ignore[misc]
    """MobileNetV2's block: wider by 1x1, 3x3 depthwise, thinner by 1x1, plus what came in."""

    def __init__(self, given: int, out: int, stride: int, wider: int) -> None:
        super().__init__()
        wide = given * wider
        self.layers = nn.Sequential(
            *(_conv(given, wide, 1) if wider > 1 else ()),
            *_conv(wide, wide, 3, stride, groups=wide),
            *_conv(wide, out, 1)[:2],
        )
        self.skips = stride == 1 and given == out

    def forward(self, x: Any) -> Any:
        """[n, given, h, w] -> [n, out, h / stride, w / stride]."""
        return x + self.layers(x) if self.skips else self.layers(x)


class Net(nn.Module):  # type: ignore[misc]
    """MobileNetV2's widths and depths (Sandler et al. 2018, table 2), for few classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers = [*_conv(3, 32, 3, 2)]
        given = 32
        for wider, out, count, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            for number in range(count):
                layers.append(Bottleneck(given, out, stride if number == 0 else 1, wider))
                given = out
        layers += _conv(given, 1280, 1)
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(1280, classes)

    def forward(self, x: Any) -> Any:
        """Images [n, 3, h, w] -> logits [n, classes]."""
        return self.head(self.features(x).mean((2, 3)))


def _conv(given: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
    conv = nn.Conv2d(given, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU6()]


def speed(scratch: Path) -> dict[str, Any]:
    """Processor time and multiplications of every net, over the dense one's."""
    torch.manual_seed(0)
    dense, rows = Net().eval(), torch.randn(2, 3, TIMED, TIMED)
    nets: dict[str, Any] = {"dense": dense}
    for share in (0.1, SHARE):
        for round_to, name in ((1, "naive"), (8, "of 8"), (16, "of 16")):
            made = prune(dense, lambda net: net(rows), Request(share, round_to=round_to))
            nets[f"{share:.0%} {name}"] = made.net
    sessions = {name: _session(net, scratch / f"{number}.onnx") for number, (name, net) in
                enumerate(nets.items())}  # fmt: skip
    feed = {"x": rows[:1].numpy()}
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            session.run(None, feed)
            begun = time.process_time()
            for _ in range(4):
                session.run(None, feed)
            best[name] = min(best[name], (time.process_time() - begun) / 4)
    counted = {name: costs.count(net, lambda net: net(rows[:1])) for name, net in nets.items()}
    return {
        name: {
            "time": round(best[name] / best["dense"], 3),
            "macs": round(counted[name].macs / counted["dense"].macs, 3),
            "ms": round(1e3 * best[name], 2),
        }
        for name in nets
    }


def _session(net: Any, path: Path) -> ort.InferenceSession:
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, TIMED, TIMED),),
        path,
        dynamo=True,
        input_names=["x"],
        external_data=False,
        verbose=False,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options)


def accuracy(seed: int) -> dict[str, Any]:
    """Share of right answers of the dense net, of the pruned one, and of its twin from scratch."""
    data = {name: pictures(count, seed * 10 + i) for i, (name, count) in enumerate(ROWS.items())}
    rows = Rows(("image",), data["train"], data["validation"])
    few = torch.from_numpy(data["train"]["image"][:2])
    torch.manual_seed(seed)
    dense = Net()
    fit(dense, rows, _recipe(DENSE_EPOCHS, seed), progress=_told("dense"))
    made = prune(dense, lambda net: net(few), Request(SHARE))
    before = _right(made.net, data["test"])
    fit(made.net, rows, _recipe(TUNING_EPOCHS, seed), progress=_told("pruned"))
    torch.manual_seed(seed + 1)
    twin = prune(Net(), lambda net: net(few), Request(SHARE)).net
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    fit(twin, rows, _recipe(DENSE_EPOCHS + TUNING_EPOCHS, seed), progress=_told("twin"))
    scores = {"dense": _right(dense, data["test"]), "pruned": _right(made.net, data["test"])}
    return {
        "seed": seed,
        **scores,
        "pruned, not tuned": before,
        "same shape from scratch, epochs of both": _right(twin, data["test"]),
        "lost": round(scores["dense"] - scores["pruned"], 4),
    }


def _recipe(epochs: int, seed: int) -> Recipe:
    return Recipe(epochs, batch_size=32, learning_rate=3e-3, weight_decay=0.01, seed=seed)


def _told(what: str) -> Callable[[Any], None]:
    return lambda epoch: print(what, epoch, file=sys.stderr)


def _right(net: Any, rows: dict[str, Array]) -> float:
    with torch.no_grad():
        parts = [net(torch.from_numpy(part)).argmax(1).numpy() for part in
                 np.array_split(rows["image"], 20)]  # fmt: skip
    return round(float((np.concatenate(parts) == rows["label"]).mean()), 4)


def pictures(count: int, seed: int) -> dict[str, Array]:
    """Shapes under noise: `image` float32 [count, 3, 48, 48], `label` 0 to 9."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 10, count)
    turn = random.uniform(0, 2 * np.pi, count)[:, None, None]
    size = random.uniform(0.5, 0.85, count)[:, None, None]
    at = random.uniform(-0.15, 0.15, (2, count))[:, :, None, None]
    grid = np.linspace(-1, 1, TRAINED)
    x, y = (grid[None, None, :] - at[0]) / size, (grid[None, :, None] - at[1]) / size
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)

    def star(points: int, depth: float) -> Array:
        return np.asarray(radius < 1 - depth * (1 + np.cos(points * angle)) / 2)

    box = np.maximum(abs(x), abs(y))
    shapes = [
        radius < 0.9,
        (radius < 0.9) & (radius > 0.5),
        box < 0.8,
        (box < 0.8) & (box > 0.45),
        (np.minimum(abs(x), abs(y)) < 0.25) & (box < 0.9),
        np.maximum(-y, (y + np.sqrt(3) * abs(x)) / 2) < 0.5,
        star(5, 0.5),
        star(8, 0.5),
        (abs(y) < 0.3) & (abs(x) < 0.95),
        (radius < 0.9) & (y > 0),
    ]
    inside = np.choose(label[:, None, None], shapes)[:, None]
    paper = random.uniform(-1, 0, (count, 3, 1, 1))
    image = np.where(inside, paper + random.uniform(0.7, 1.5, (count, 3, 1, 1)), paper)
    image = image + random.normal(0, 0.2, image.shape)
    return {"image": image.astype(np.float32), "label": label.astype(np.int64)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", action="store_true", help="also train, and score")
    parser.add_argument("--seeds", type=int, default=1, help="how many dense nets are trained")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        times = speed(Path(scratch))
    figures: dict[str, Any] = {"one thread, 160 px": times}
    good = times[f"{SHARE:.0%} of 16"]["time"] <= WANTED
    if asked.train:
        scores = [accuracy(seed) for seed in range(asked.seeds)]
        figures["accuracy"] = scores
        good = good and float(np.mean([score["lost"] for score in scores])) <= LOST
    print(json.dumps(figures, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
