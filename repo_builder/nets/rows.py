"""Made-up rows for a net: random, and the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repo_builder.introspect import samples
from repo_builder.nets.types import Net

if TYPE_CHECKING:
    from torch import Tensor

_BELOW = 2
"""Whole numbers are below this: they are indices often, of tables of any size."""


def arrays(net: Net, count: int, *, seed: int) -> dict[str, samples.Array]:
    """Inputs of `count` rows by name, in the order of `net.inputs`."""
    shapes = net.shapes(count)
    return {t.name: samples.draw(t, shapes[t.name], _BELOW, seed) for t in net.inputs}


def tensors(net: Net, count: int, *, seed: int) -> dict[str, Tensor]:
    """The same as PyTorch's tensors."""
    import torch

    return {
        name: torch.from_numpy(array.copy())
        for name, array in arrays(net, count, seed=seed).items()
    }
