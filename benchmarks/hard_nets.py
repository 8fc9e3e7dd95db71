"""Nets that plain min-max int8 harms: as they come, and made uneven by exact rescaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution with a normalization behind it."""
    made = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(outputs))


class Depthwise(nn.Module):  # type: ignore[misc]
    """Depthwise and pointwise convolutions in turns, with ReLU, as in MobileNet."""

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (16, 32, 32, 64, 64), (1, 1, 2, 1)
        self.blocks = nn.ModuleList([conv(1, widths[0], 3, 2)])
        for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False):
            self.blocks.append(conv(inputs, inputs, 3, stride, inputs))
            self.blocks.append(conv(inputs, outputs, 1))
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: Any) -> Any:
        """[rows, 1, 16, 16] -> a score for each digit."""
        for block in self.blocks:
            x = torch.relu(block(x))
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):  # type: ignore[misc]
    """Inverted residuals with SiLU inside and a linear stream between, as in EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 24, 3, 2)
        self.wide = nn.ModuleList(conv(24, 96, 1) for _ in range(3))
        self.deep = nn.ModuleList(conv(96, 96, 3, 1, 96) for _ in range(3))
        self.back = nn.ModuleList(conv(96, 24, 1) for _ in range(3))
        self.last = conv(24, 64, 1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        """[rows, 1, 16, 16] -> a score for each digit."""
        x = self.stem(x)
        for wide, deep, back in zip(self.wide, self.deep, self.back, strict=True):
            x = x + back(nn.functional.silu(deep(nn.functional.silu(wide(x)))))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


class Gated(nn.Module):  # type: ignore[misc]
    """Convolutions whose channels are gated by squeeze and excitation, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(1, 32, 3, 2), conv(32, 64, 3, 2)
        self.squeeze = nn.ModuleList([nn.Conv2d(32, 8, 1), nn.Conv2d(64, 16, 1)])
        self.excite = nn.ModuleList([nn.Conv2d(8, 32, 1), nn.Conv2d(16, 64, 1)])
        self.last = conv(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        """[rows, 1, 16, 16] -> a score for each digit."""
        for block, squeeze, excite in zip(
            (self.first, self.second), self.squeeze, self.excite, strict=True
        ):
            x = torch.relu(block(x))
            inner = torch.relu(squeeze(x.mean((2, 3), keepdim=True)))
            x = x * torch.sigmoid(excite(inner))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


class Attention(nn.Module):  # type: ignore[misc]
    """A small vision transformer: 16 patches of 4x4, 3 blocks, 4 heads."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.width = width
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.place = nn.Parameter(torch.zeros(1, 16, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(6))
        self.queries, self.keys, self.values, self.out = (
            nn.ModuleList(nn.Linear(width, width) for _ in range(3)) for _ in range(4)
        )
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        """[rows, 1, 16, 16] -> a score for each digit."""
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        for i in range(3):
            y = self.norms[2 * i](x)
            q, k, v = (
                part[i](y).unflatten(2, (4, -1)).transpose(1, 2)
                for part in (self.queries, self.keys, self.values)
            )
            shares = torch.softmax(q @ k.transpose(2, 3) / (self.width / 4) ** 0.5, dim=-1)
            x = x + self.out[i]((shares @ v).transpose(1, 2).flatten(2))
            y = self.norms[2 * i + 1](x)
            x = x + self.down[i](nn.functional.gelu(self.up[i](y)))
        return self.head(self.norm(x).mean(1))


class Sensor(nn.Module):  # type: ignore[misc]
    """Dense layers on a row of readings."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Flatten(), nn.Linear(256, 64), nn.ReLU()),
            *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        )

    def forward(self, x: Any) -> Any:
        """[rows, 1, 16, 16] -> a score for each digit."""
        return self.layers(x)


def factors(count: int, most: float, seed: int) -> Any:
    """Uneven factors between 1 / sqrt(most) and sqrt(most)."""
    random = np.random.default_rng(seed)
    spread = np.log(most) / 2
    return torch.from_numpy(np.exp(random.uniform(-spread, spread, count)).astype(np.float32))


@torch.no_grad()  # type: ignore[untyped-decorator]
def move(maker: Any, readers: list[Any], scale: Any) -> None:
    """Scale the channels of a normalization's output, and take it back in who reads them."""
    maker.weight *= scale
    maker.bias *= scale
    for reader in readers:
        depthwise = isinstance(reader, nn.Conv2d) and reader.groups > 1
        shape = [-1, 1] if depthwise else [1, -1]
        reader.weight /= scale.reshape(*shape, *[1] * (reader.weight.ndim - 2))


def harm_depthwise(net: Depthwise) -> None:
    """Channels between convolutions up to 400 times apart."""
    for number in range(len(net.blocks) - 1):
        norm, reader = net.blocks[number][1], net.blocks[number + 1][0]
        move(norm, [reader], factors(norm.num_features, 400, number))


def harm_residual(net: Residual) -> None:
    """Channels of the stream up to 400 times apart, all who add to it alike."""
    scale = factors(24, 400, 9)
    readers = [*(block[0] for block in net.wide), net.last[0]]
    move(net.stem[1], readers, scale)
    for block in net.back:
        move(block[1], [], scale)


def harm_gated(net: Gated) -> None:
    """Channels that a gate multiplies up to 100 times apart."""
    move(net.first[1], [net.squeeze[0], net.second[0]], factors(32, 100, 5))
    move(net.second[1], [net.squeeze[1], net.last[0]], factors(64, 100, 6))


def harm_attention(net: Attention) -> None:
    """Three channels of each normalization 60 times as large as the others."""
    for number, norm in enumerate(net.norms):
        scale = torch.ones(net.width)
        scale[[3, 17, 30]] = 60
        block = number // 2
        parts = [net.up] if number % 2 else [net.queries, net.keys, net.values]
        move(norm, [part[block] for part in parts], scale)


def unharmed(_net: Any) -> None:
    """Nothing: the net is hard as it is."""
