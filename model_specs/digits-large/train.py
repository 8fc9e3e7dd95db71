"""Train `digits-large`, the cloud sibling of `digits`: wider, deeper, more accurate.

Same inputs, outputs and splits as `digits`, whose data sets serve both. It learns from
the same 797 images, randomly turned, scaled and shifted. Writes digits-large.onnx and the labels
beside itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import training  # noqa: E402


def block(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def network() -> nn.Module:
    return nn.Sequential(
        block(1, 32),
        block(32, 64),
        nn.MaxPool2d(2),
        block(64, 96),
        block(96, 128),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def augment(images: Tensor) -> Tensor:
    """Turn by up to 12 degrees, scale by up to 10 %, shift by up to one pixel."""
    count = len(images)
    angle = torch.empty(count).uniform_(-0.21, 0.21)
    scale = torch.empty(count).uniform_(0.9, 1.1)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = cosine, -sine
    theta[:, 1, 0], theta[:, 1, 1] = sine, cosine
    theta[:, :, 2].uniform_(-0.25, 0.25)  # the image spans -1..1: a quarter is one of 8 pixels
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(model(augment(images)), labels)


def main() -> None:
    training.make_deterministic(seed=0)
    train, calibration, evaluation = training.digits_splits()
    training.write_labels(HERE / "labels.txt", range(10))

    model = network()
    examples = (torch.from_numpy(train.images), torch.from_numpy(train.labels))
    training.fit(model, examples, loss, epochs=80, batch_size=32, learning_rate=3e-3)
    path = HERE / "digits-large.onnx"
    training.export(model, path, torch.from_numpy(evaluation.images[:5]), "image", "logits")
    training.report_accuracy(path, calibration, evaluation)


if __name__ == "__main__":
    main()
