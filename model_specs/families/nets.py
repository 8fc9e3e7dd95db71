"""The nets of this folder's specs: a family of sizes, and a mixture of experts."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


class Scaled(torch.nn.Module):
    """Blocks of convolution, batch norm and a way around them, at a length of its own.

    [n, 1, 40] to 10 logits [n, 10]. It brings the signal to `length` places by itself, so all sizes
    take the same input.
    """

    def __init__(self, depth: int, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.stem = torch.nn.Sequential(*_conv(1, width, stride=2), *_conv(width, width, stride=2))
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(*_conv(width, width)) for _ in range(depth)
        )
        self.head = torch.nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        """Logits of signals."""
        x = self.stem(functional.interpolate(x, size=self.length, mode="linear"))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(dim=2))


class Mixture(torch.nn.Module):
    """Convolutions, then experts of which each row computes only the `active` it is sent to.

    [n, 1, 40] to 10 logits [n, 10]. An expert is a small net on the channels of each place. The
    weights of the chosen are gathered before anything is multiplied; those of the others are never
    read. As the guide's `EdgeMoE`, which computes all and then throws away.
    """

    def __init__(self, experts: int, active: int, width: int = 24, hidden: int = 96) -> None:
        super().__init__()
        self.active = active
        self.stem = torch.nn.Sequential(*_conv(1, width, stride=2), *_conv(width, width, stride=2))
        self.router = torch.nn.Linear(width, experts)
        self.into = torch.nn.Parameter(torch.randn(experts, hidden, width) / width**0.5)
        self.out = torch.nn.Parameter(torch.randn(experts, width, hidden) / hidden**0.5)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        """Logits of signals."""
        x = self.stem(x)
        sent = torch.softmax(self.router(x.mean(dim=2)), dim=1)
        share, chosen = torch.topk(sent, self.active, dim=1)
        share = share / share.sum(dim=1, keepdim=True)
        hidden = torch.relu(self.into[chosen] @ x[:, None])
        said = self.out[chosen] @ hidden * share[:, :, None, None]
        return self.head((x + said.sum(dim=1)).mean(dim=2))


class ImageMixture(torch.nn.Module):
    """The guide's `EdgeMoE`, with experts that are really left out: 64 channels of 56 x 56 places.

    One image [1, 3, 112, 112] to 10 logits. An expert is two 3 x 3 convolutions and a way around
    them, as products of matrices, since the weights of a convolution must be constants on many
    devices.
    """

    def __init__(self, experts: int, active: int, width: int = 64) -> None:
        super().__init__()
        self.active = active
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, 2, 1), torch.nn.ReLU())
        self.router = torch.nn.Linear(width, experts)
        shape, scale = (experts, width, 9 * width), (9 * width) ** -0.5
        self.first = torch.nn.Parameter(torch.randn(shape) * scale)
        self.second = torch.nn.Parameter(torch.randn(shape) * scale)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, image: Any) -> Any:
        """Logits of an image."""
        x = self.stem(image)
        sent = torch.softmax(self.router(x.mean(dim=(2, 3))), dim=1)
        share, chosen = torch.topk(sent, self.active, dim=1)
        share = share / share.sum(dim=1, keepdim=True)
        hidden = torch.relu(self.first[chosen[0]] @ _patches(x))  # [active, width, places]
        hidden = hidden.reshape(self.active, *x.shape[1:])
        said = self.second[chosen[0]] @ _patches(hidden) * share[0, :, None, None]
        answer = torch.relu(x + said.sum(dim=0).reshape(x.shape))
        return self.head(answer.mean(dim=(2, 3)))


def _patches(x: Any) -> Any:
    """[n, channels, height, width] to the 3 x 3 around each place: [n, 9 * channels, places]."""
    height, width = x.shape[2:]
    padded = functional.pad(x, (1, 1, 1, 1))
    parts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.cat(parts, dim=1).flatten(2)


def _conv(channels: int, width: int, stride: int = 1) -> list[Any]:
    conv = torch.nn.Conv1d(channels, width, 5, stride=stride, padding=2, bias=False)
    return [conv, torch.nn.BatchNorm1d(width), torch.nn.ReLU()]


def scaled(depth: int, width: int, length: int) -> Any:
    """A net of one size."""
    return Scaled(depth, width, length)


def mixture(experts: int, active: int) -> Any:
    """A mixture of which so many experts answer."""
    return Mixture(experts, active)


def image_mixture(experts: int, active: int) -> Any:
    """A mixture for images of which so many experts answer."""
    return ImageMixture(experts, active)
