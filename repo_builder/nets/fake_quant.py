"""Quantization-aware training: forward sees rounded weights, gradients pass as if they were not.

The straight-through estimator of Bengio, Leonard, Courville, 2013, arXiv:1308.3432. The grid is
that of the step which stores the weights later, from their least and largest, so that rounding what
was trained changes nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_WEIGHT = "weight"


@dataclass(frozen=True)
class Grid:
    """Weights of `bits`, a scale for each `block` inputs of an output, 0: for each output.

    `symmetric`: zero points of 0, and the least integer is not used. `convolutions` are rounded
    too, not linear layers alone.
    """

    bits: int
    block: int
    symmetric: bool
    convolutions: bool = False


def rounded(weights: Tensor, grid: Grid) -> Tensor:
    """Weights [outputs, ...] as the nearest numbers of the grid; 0 is one of them."""
    import torch

    matrix = weights.flatten(1)
    outputs, inputs = matrix.shape
    block = grid.block or inputs
    count = -(-inputs // block)
    padded = torch.nn.functional.pad(matrix, (0, count * block - inputs))
    parts = padded.reshape(outputs, count, block)
    least = parts.amin(dim=2, keepdim=True).clamp(max=0)
    most = parts.amax(dim=2, keepdim=True).clamp(min=0)
    if grid.symmetric:
        high = (1 << (grid.bits - 1)) - 1
        scale = torch.maximum(-least, most) / high
        zero, low = torch.zeros_like(scale), -high
    else:
        low, high = 0, (1 << grid.bits) - 1
        scale = (most - least) / high
        zero = (-least / torch.where(scale > 0, scale, 1.0)).round()
    scale = torch.where(scale > 0, scale, 1.0)
    integers = ((parts / scale).round() + zero).clamp(low, high)
    found = ((integers - zero) * scale).reshape(outputs, count * block)[:, :inputs]
    return found.reshape(weights.shape)


def attach(net: Module, grid: Grid) -> tuple[str, ...]:
    """Round the weights of linear layers, and convolutions, from now on; gives their names.

    Weights that several layers share stay as they are, as does a weight that is computed.
    ModelError where there is nothing to round.
    """
    from torch import nn
    from torch.nn.utils import parametrize

    kinds: tuple[type[Any], ...] = (nn.Linear,)
    if grid.convolutions:
        kinds += (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    uses: dict[int, int] = {}
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    chosen = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, kinds)
        and isinstance(module.weight, nn.Parameter)
        and uses[id(module.weight)] == 1
    }
    if not chosen:
        what = "linear layers and convolutions" if grid.convolutions else "linear layers"
        raise ModelError(
            f"the net has no {what} with weights of their own, so there is nothing to round while "
            "it is trained; leave `quantization_aware` out"
        )
    for module in chosen.values():
        parametrize.register_parametrization(module, _WEIGHT, _straight_through(grid))
    return tuple(chosen)


def bake(net: Module, names: tuple[str, ...]) -> None:
    """Leave the layers that `attach` named with their rounded weights, as plain parameters."""
    from torch.nn.utils import parametrize

    for name in names:
        parametrize.remove_parametrizations(net.get_submodule(name), _WEIGHT)


def _straight_through(grid: Grid) -> Module:
    """A module that rounds forward and does nothing to gradients."""
    import torch

    class StraightThrough(torch.nn.Module):  # type: ignore[misc]
        def forward(self, weights: Tensor) -> Tensor:
            return weights + (rounded(weights, grid) - weights).detach()

    return StraightThrough()
