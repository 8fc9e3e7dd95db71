"""Train `digits`, the edge classifier: a small CNN that fits a microcontroller.

Only Conv, Relu, MaxPool and Gemm, and one Flatten of 1x1 maps, so that it maps onto int8 TFLite and
Ethos-U as it is. Writes digits.onnx, both data sets, the labels and a sample image beside itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import training  # noqa: E402


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(model(images), labels)


def main() -> None:
    training.make_deterministic(seed=0)
    train, calibration, evaluation = training.digits_splits()
    np.savez_compressed(HERE / "calibration.npz", image=calibration.images)
    np.savez_compressed(HERE / "evaluation.npz", image=evaluation.images, label=evaluation.labels)
    training.write_labels(HERE / "labels.txt", range(10))
    sample = np.rint(evaluation.images[0, 0] * 255).astype(np.uint8)
    Image.fromarray(sample).save(HERE / "sample.png")

    model = network()
    examples = (torch.from_numpy(train.images), torch.from_numpy(train.labels))
    training.fit(model, examples, loss, epochs=40, batch_size=32, learning_rate=3e-3)
    path = HERE / "digits.onnx"
    training.export(model, path, torch.from_numpy(evaluation.images[:5]), "image", "logits")
    training.report_accuracy(path, calibration, evaluation)


if __name__ == "__main__":
    main()
