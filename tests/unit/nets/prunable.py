"""Small nets, each with one thing that makes pruning hard."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Skip(nn.Module):  # type: ignore[misc]
    """Inverted bottlenecks, as MobileNetV2 has them: depthwise, and a sum over a skip."""

    def __init__(self, width: int = 32, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), norm(width))
        self.wide = nn.Sequential(nn.Conv2d(width, 2 * width, 1), norm(2 * width), nn.ReLU6())
        depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.deep = nn.Sequential(depthwise, norm(2 * width), nn.ReLU6())
        self.thin = nn.Conv2d(2 * width, width, 1)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        x = self.stem(x).relu()
        x = x + self.thin(self.deep(self.wide(x)))
        return self.head(x.mean((2, 3)))


class TwoAnswers(nn.Module):  # type: ignore[misc]
    """A mapping of two answers, one of them a view of what a convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 32, 3)
        self.boxes = nn.Conv2d(32, 8, 1)
        self.scores = nn.Conv2d(32, 4, 1)

    def forward(self, x: Any) -> Any:
        x = self.body(x).relu()
        return {"boxes": self.boxes(x).flatten(1), "scores": self.scores(x).sigmoid()}


class Halves(nn.Module):  # type: ignore[misc]
    """`torch.chunk`, a convolution of one half and a concatenation, as YOLO's C2f has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.split = nn.Conv2d(32, 32, 1)
        self.inner = nn.Conv2d(16, 16, 3, padding=1)
        self.join = nn.Conv2d(48, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        parts = list(self.split(self.stem(x).relu()).chunk(2, 1))
        parts.append(self.inner(parts[-1]))
        return self.head(self.join(torch.cat(parts, 1)).relu().mean((2, 3)))


class Shuffled(nn.Module):  # type: ignore[misc]
    """ShuffleNet's shuffle: it still runs with fewer channels, but deals them out otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 32, 3, padding=1)
        self.after = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        x = self.before(x).relu()
        rows, wide, height, width = x.shape
        x = x.view(rows, 2, wide // 2, height, width).transpose(1, 2)
        x = x.reshape(rows, wide, height, width)
        return self.head(self.after(x).relu().mean((2, 3)))


class Attention(nn.Module):  # type: ignore[misc]
    """Heads are slices of the channels that q, k and v give; a norm over channels; a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(torch.randn(1, 5, 32))
        self.norm = nn.LayerNorm(32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.out = nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        x = self.embed(x) + self.place
        rows, tokens, _ = x.shape
        seen = self.norm(x)
        q, k, v = (
            linear(seen).view(rows, tokens, 4, -1).transpose(1, 2)
            for linear in (self.q, self.k, self.v)
        )
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, tokens, -1))
        return self.head(x.mean(1))


class Grouped(nn.Module):  # type: ignore[misc]
    """A convolution in groups and a GroupNorm, each fed by a convolution, then one that is free."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.dealt = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.c = nn.Conv2d(32, 32, 1)
        self.norm = nn.GroupNorm(4, 32)
        self.free = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        x = self.norm(self.c(self.dealt(self.a(x)).relu())).relu()
        return self.head(self.free(x).relu().mean((2, 3)))


def norm(width: int) -> Any:
    """A batch norm that is not the identity, as after training."""
    made = nn.BatchNorm2d(width)
    for tensor in (made.weight, made.bias, made.running_mean):
        tensor.data.normal_()
    return made
