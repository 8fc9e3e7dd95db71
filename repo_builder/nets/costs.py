"""What a net costs, counted: channels, multiplications, parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Run = Callable[["nn.Module"], Any]
"""Calls a net on some rows and gives its answers: a tensor, or any nest of tensors."""


@dataclass(frozen=True)
class Costs:
    """Multiply-accumulates of one run, by convolutions and matrix products.

    `parameters` counts numbers that training changes; `channels` those that convolutions and
    linear layers give.
    """

    macs: int
    parameters: int
    channels: int


def count(net: nn.Module, run: Run) -> Costs:
    """Count, while `run` calls the net on the rows that are meant."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(net)
    conv = nn.modules.conv._ConvNd
    wide = [m.out_channels for m in net.modules() if isinstance(m, conv)]
    wide += [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    # One multiply-accumulate is two floating point operations.
    macs = int(counter.get_total_flops()) // 2
    return Costs(macs, sum(p.numel() for p in net.parameters()), sum(wide))
