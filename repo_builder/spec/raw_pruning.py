"""The raw shape of `optimize.prune`. As in `raw.py`, docstrings of fields are help texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from repo_builder.spec.pruning import Criterion, Of
from repo_builder.spec.raw_base import Raw


class RawPrune(Raw):
    """Take the least important channels out of the PyTorch net, and fine-tune it by `train`."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """How much goes, 0 to 1."""
    of: Of = "channels"
    """Of the channels of every layer, the multiplications (macs) or parameters of the net, or its
    latency, measured in the target's runtime on this machine."""
    criterion: Criterion = "magnitude"
    """What makes a channel important: the size of its weights, or how much the loss would change
    without it, told from gradients (taylor) or their squares (hessian)."""
    round_to: Annotated[int, Field(ge=1, le=256)] = 16
    """Layers keep a multiple of so many channels: runtimes are slower with what fills no block."""
    iterations: Annotated[int, Field(ge=1, le=100)] = 1
    """In how many parts the share goes, each followed by its part of the epochs of `train`."""
    keep: list[str] = []
    """Names of layers (globs) whose channels all stay."""
