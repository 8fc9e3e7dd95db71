"""The nets of this folder's specs."""

from __future__ import annotations

from typing import Any

import torch


def make(width: int) -> Any:
    """Three convolutions with batch norm, their mean over all places, and a linear layer.

    [n, 1, 40] to 10 logits [n, 10].
    """
    layers: list[Any] = []
    for channels in (1, width, width):
        conv = torch.nn.Conv1d(channels, width, 5, stride=2, padding=2, bias=False)
        layers += [conv, torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
    head = [torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(width, 10)]
    return torch.nn.Sequential(*layers, *head)
