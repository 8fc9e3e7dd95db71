"""What plain min-max int8 loses on nets that are hard to quantize, and what brings it back.

    python benchmarks/repair.py

Makes its nets and its data: scikit-learn's digits, moved, turned and noised, so that 797 digits
that no net was trained on give 3,985 test rows. Channels are made uneven by exact rescaling, which
leaves the answers in floating point as they were; spikes are put into the rows of the sensor. All
is quantized by the steps that a build runs, with calibration rows from the training half, and run
in ONNX Runtime. Takes 100 s of CPU time. Ends with 1 where a limit is not kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from hard_nets import (
    Attention,
    Depthwise,
    Gated,
    Residual,
    Sensor,
    harm_attention,
    harm_depthwise,
    harm_gated,
    harm_residual,
    unharmed,
)
from scipy import ndimage  # type: ignore[import-untyped]
from sklearn.datasets import load_digits
from torch import nn

from repo_builder import steps
from repo_builder.steps import _runtimes

EPOCHS = 14
EPOCHS_OF_ATTENTION = 40
CALIBRATION = 200
PLAIN = {"scheme": "u8s8", "samples": CALIBRATION, "repair": ()}
BUILD = {"scheme": "u8s8", "samples": CALIBRATION}
LEAST_GAIN = 0.85


@dataclass(frozen=True)
class Case:
    """A net, how it is made hard to quantize, what repairs it, and how many points it may lose."""

    name: str
    net: Callable[[], nn.Module]
    harm: Callable[[Any], None]
    repair: str
    step: str
    params: Mapping[str, Any]
    allowed: float
    spikes: bool = False


@dataclass(frozen=True)
class Data:
    """Images [rows, 1, 16, 16] and their digits."""

    images: Any
    labels: Any


def digits() -> tuple[Data, Data]:
    """Training and test rows; no digit is in both."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].reshape(-1, 8, 8) / 16, labels[order]
    halves = ((slice(0, 1000), 4, 1), (slice(1000, None), 5, 2))
    train, test = (
        _varied(images[part], labels[part], copies, seed) for part, copies, seed in halves
    )
    return train, test


def _varied(images: Any, labels: Any, copies: int, seed: int) -> Data:
    random = np.random.default_rng(seed)
    made = []
    for image in np.repeat(images, copies, axis=0):
        large = ndimage.zoom(image, 2, order=1)
        turned = ndimage.rotate(large, random.uniform(-15, 15), reshape=False, order=1)
        moved = ndimage.shift(turned, random.uniform(-2, 2, 2), order=1)
        made.append(moved + random.normal(0, 0.15, moved.shape))
    return Data(np.stack(made)[:, None].astype(np.float32), np.repeat(labels, copies))


def train(net: Any, data: Data) -> None:
    """Adam with a falling rate; the same on every run."""
    epochs = EPOCHS_OF_ATTENTION if isinstance(net, Attention) else EPOCHS
    torch.manual_seed(1)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    steps_in_all = epochs * -(-len(images) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps_in_all)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    net.eval()


CASES = (
    Case(
        *("depthwise, channels 400x apart", Depthwise, harm_depthwise, "equalize"),
        *("quantize", BUILD, 0.3),
    ),
    Case(
        *("transformer, 3 channels 60x", Attention, harm_attention, "smooth"),
        *("quantize", BUILD, 0.3),
    ),
    Case(
        *("residual stream 400x apart, SiLU", Residual, harm_residual, "equalize"),
        *("quantize", BUILD, 0.5),
    ),
    Case(
        *("gates, channels 100x apart", Gated, harm_gated, "activations: none"),
        *(
            "quantize-weights",
            {"weights": "int8", "repair": ("equalize", "smooth", "bias", "round")},
            0.5,
        ),
    ),
    Case(
        *("sensor with spikes in 1 % of rows", Sensor, unharmed, "method: entropy"),
        *("quantize", {**BUILD, "method": "entropy"}, 0.5, True),
    ),
)


class Bench:
    """Runs steps in folders of a scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._count = scratch, 0

    def folder(self) -> Path:
        """A new folder."""
        self._count += 1
        made = self._scratch / str(self._count)
        made.mkdir()
        return made

    def step(self, name: str, params: Mapping[str, Any], **inputs: Path) -> Path:
        """Run a step; its folder."""
        module, out = steps.load(name), self.folder()
        module.run(module.Inputs(**inputs), module.Params(**params), out)
        return out


def exported(net: Any, folder: Path) -> Path:
    """The net as ONNX, its first dimension open."""
    example = torch.zeros(2, 1, 16, 16)
    program = torch.onnx.export(
        net,
        (example,),
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    onnx.save(program.model_proto, folder / "model.onnx")
    return folder


def accuracy(folder: Path, data: Data) -> float:
    """In points."""
    runner = _runtimes.load(folder, "onnxruntime")
    (found,) = runner.run({"x": data.images}).values()
    return float((found.argmax(axis=1) == data.labels).mean() * 100)


def size(folder: Path) -> int:
    """Bytes of the model's file."""
    return (folder / "model.onnx").stat().st_size


def with_spikes(images: Any) -> Any:
    """One reading of every hundredth row is 300 times too large."""
    made = images.copy()
    made[50::100, 0, 7, 7] = 300
    return made


def measured(case: Case, bench: Bench, train_data: Data, test: Data) -> bool:
    """Print the row of one net; whether its limits are kept."""
    torch.manual_seed(0)
    net: Any = case.net()
    train(net, train_data)
    case.harm(net)
    fp32 = bench.step("simplify", {}, model=exported(net, bench.folder()))
    calibration = bench.folder()
    rows = chosen(train_data.images)
    np.savez(calibration / "calibration.npz", x=with_spikes(rows) if case.spikes else rows)
    plain = bench.step("quantize", PLAIN, model=fp32, calibration=calibration)
    repaired = bench.step(case.step, case.params, model=fp32, calibration=calibration)
    source, before, after = (accuracy(folder, test) for folder in (fp32, plain, repaired))
    sizes = [size(folder) for folder in (fp32, plain, repaired)]
    gain = (sizes[0] - sizes[2]) / (sizes[0] - sizes[1])
    print(
        f"| {case.name} | {source:.2f} | {before - source:+.2f} | `{case.repair}` | "
        f"{after - source:+.2f} | {sizes[0] / 1e3:.0f}, {sizes[1] / 1e3:.0f}, "
        f"{sizes[2] / 1e3:.0f} | {gain:.0%} |",
        flush=True,
    )
    return source - after <= case.allowed and gain >= LEAST_GAIN


def in_4_bits(name: str, net: Any, bench: Bench, train_data: Data, test: Data) -> None:
    """Print what a net loses with weights of 4 bits, as it is."""
    torch.manual_seed(0)
    train(net, train_data)
    fp32 = bench.step("simplify", {}, model=exported(net, bench.folder()))
    calibration = bench.folder()
    np.savez(calibration / "calibration.npz", x=chosen(train_data.images))
    every = ("equalize", "smooth", "bias", "round")
    found = [
        bench.step(
            "quantize-weights",
            {"weights": "int4", "symmetric": False, "repair": repair},
            model=fp32,
            calibration=calibration,
        )
        for repair in ((), every)
    ]
    source, nearest, repaired = (accuracy(folder, test) for folder in (fp32, *found))
    sizes = [size(folder) for folder in (fp32, found[1])]
    print(
        f"| {name} | {source:.2f} | {nearest - source:+.2f} | {repaired - source:+.2f} | "
        f"{sizes[0] / 1e3:.0f}, {sizes[1] / 1e3:.0f} |",
        flush=True,
    )


def chosen(images: Any) -> Any:
    """Calibration rows, from all over the training rows."""
    return images[:: len(images) // CALIBRATION][:CALIBRATION]


def main() -> int:
    torch.set_num_threads(1)
    train_data, test = digits()
    print("| net | fp32 | min-max int8 | repair | after it | KB fp32, int8, repaired | size gain |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        kept = [measured(case, bench, train_data, test) for case in CASES]
        print("\n| int4 weights alone | fp32 | nearest | all repairs | KB |\n|---|---|---|---|---|")
        for name, make in (("sensor", Sensor), ("transformer", Attention)):
            in_4_bits(name, make(), bench, train_data, test)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
