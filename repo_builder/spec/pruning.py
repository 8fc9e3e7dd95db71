"""How a PyTorch net is pruned, resolved: every default is filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Of = Literal["channels", "macs", "parameters", "latency"]
Criterion = Literal["magnitude", "taylor", "hessian"]


@dataclass(frozen=True)
class Pruning:
    """What goes, and by which measure: see `repo_builder.nets.prune.Request`.

    In each of `iterations` an equal part of `share` goes, and an equal part of the training's
    epochs follows.
    """

    share: float
    of: Of = "channels"
    criterion: Criterion = "magnitude"
    round_to: int = 16
    iterations: int = 1
    keep: tuple[str, ...] = ()
