"""A tiny problem of three classes, and nets for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from repo_builder.nets.train import Rows


def arrays(count: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Points about three corners, with the corner as the class."""
    random = np.random.default_rng(seed)
    label = random.integers(3, size=count)
    corners = np.array([[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0]], np.float32)
    noise = random.standard_normal((count, 4)).astype(np.float32)
    return {"x": corners[label] + 0.7 * noise, "label": label}


def rows(train: int = 96, validation: int = 60) -> Rows:
    """Rows to train on, and others."""
    return Rows(("x",), arrays(train, 0), arrays(validation, 1))


def net(width: int = 8, dropout: float = 0.0) -> Any:
    """A small perceptron with batch norm, always the same."""
    torch.manual_seed(7)
    return torch.nn.Sequential(
        torch.nn.Linear(4, width),
        torch.nn.BatchNorm1d(width),
        torch.nn.ReLU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(width, 3),
    )
