"""Train `vibration`, an anomaly detector for a microcontroller: an autoencoder of 128 samples.

A window of acceleration (in g, 128 samples at 2048 Hz) from a shaft that turns at 48 Hz goes
through a narrow middle layer and back. The network has seen healthy machines only, so the mean
squared error of its reconstruction tells how unlike a healthy machine a window is. Only Gemm and
Relu. Writes vibration.onnx and both data sets beside itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import training  # noqa: E402

SAMPLE_RATE = 2048
TIME = np.arange(128) / SAMPLE_RATE
FAULTS = ("impulses", "harmonic", "imbalance")
Signal = NDArray[Any]


def healthy(random: np.random.Generator) -> Signal:
    """Three harmonics of the shaft, locked in phase, at a speed and load that vary; and noise."""
    speed = 48 * random.uniform(0.96, 1.04)
    load = random.uniform(0.85, 1.15)
    turn = 2 * np.pi * (speed * TIME + random.uniform())
    shaft = 0.6 * np.sin(turn) + 0.3 * np.sin(2 * turn + 0.8) + 0.15 * np.sin(3 * turn + 2.1)
    return load * shaft + random.normal(0, 0.08, TIME.size)


def faulty(random: np.random.Generator, fault: str) -> Signal:
    """A healthy window with one fault added."""
    signal = healthy(random)
    if fault == "impulses":  # a pitted outer race: a ringing hit 3.6 times a turn
        since_hit = (TIME + random.uniform(0, 1 / 172.8)) % (1 / 172.8)
        ring = np.exp(-since_hit * 600) * np.sin(2 * np.pi * 700 * since_hit)
        return signal + random.uniform(0.1, 0.5) * ring
    if fault == "harmonic":  # a worn gear: a tone at a higher order
        tone = 2 * np.pi * (48 * random.uniform(4.5, 9) * TIME + random.uniform())
        return signal + random.uniform(0.04, 0.2) * np.sin(tone)
    turn = 2 * np.pi * (48 * TIME + random.uniform())  # imbalance: the first harmonic changes
    return signal + random.uniform(0.1, 0.4) * np.sin(turn)


def windows(seed: int, count: int, faults: int = 0) -> NDArray[np.float32]:
    """`count` healthy windows, then `faults` faulty ones that take turns through `FAULTS`."""
    random = np.random.default_rng(seed)
    signals = [healthy(random) for _ in range(count)]
    signals += [faulty(random, FAULTS[i % len(FAULTS)]) for i in range(faults)]
    return np.stack(signals).astype(np.float32)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(128, 40),
        nn.ReLU(),
        nn.Linear(40, 6),
        nn.ReLU(),
        nn.Linear(6, 40),
        nn.ReLU(),
        nn.Linear(40, 128),
    )


def loss(model: nn.Module, signals: Tensor) -> Tensor:
    return mse_loss(model(signals), signals)


def main() -> None:
    training.make_deterministic(seed=0)
    train = torch.from_numpy(windows(seed=1, count=6000))
    calibration = windows(seed=2, count=200)
    evaluation = windows(seed=3, count=300, faults=300)
    anomaly = np.repeat(np.array([0, 1], dtype=np.int64), 300)
    np.savez_compressed(HERE / "calibration.npz", signal=calibration)
    np.savez_compressed(HERE / "evaluation.npz", signal=evaluation, anomaly=anomaly)

    model = network()
    training.fit(model, [train], loss, epochs=120, batch_size=64, learning_rate=3e-3)
    path = HERE / "vibration.onnx"
    training.export(model, path, torch.from_numpy(evaluation[:5]), "signal", "reconstruction")

    int8 = training.quantized(path, signal=calibration)
    for form, onnx_model in (("fp32", path.read_bytes()), ("int8", int8)):
        reconstruction = training.infer(onnx_model, signal=evaluation)["reconstruction"]
        error = np.mean((reconstruction - evaluation) ** 2, axis=1)
        each = {
            fault: training.auroc(error[:300], error[300 + i :: len(FAULTS)])
            for i, fault in enumerate(FAULTS)
        }
        total = training.auroc(error[:300], error[300:])
        print(
            f"vibration {form}: AUROC {total:.4f}",
            *(f"{fault} {value:.4f}" for fault, value in each.items()),
            f"{len(onnx_model):,} bytes",
            sep=", ",
        )


if __name__ == "__main__":
    main()
