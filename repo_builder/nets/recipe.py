"""How a net is trained: the numbers, the optimizer, the learning rate on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError
from repo_builder.spec.training import LossName, OptimizerName, ScheduleName

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True)
class Recipe:
    """How a net is trained.

    `schedule` is of the learning rate: cosine falls to 0 along half a wave, step is a tenth after
    half of the training and a hundredth after three quarters. sgd has Nesterov's momentum of 0.9.
    `weight_decay` is for tensors of two and more axes: no biases, no scales of norms. With
    `early_stop` training ends after so many epochs without a better score on validation rows.
    `threads` are part of what is computed: sums are cut into as many parts.
    """

    epochs: int
    batch_size: int = 64
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    schedule: ScheduleName = "cosine"
    weight_decay: float = 0.0
    early_stop: int | None = None
    seed: int = 0
    loss: LossName = "cross_entropy"
    threads: int = 1


def learning_rate(recipe: Recipe, at: float) -> float:
    """The learning rate where the share `at` of the training, 0 to 1, is done."""
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * at)) / 2
    if recipe.schedule == "step":
        return float(recipe.learning_rate * 0.1 ** ((at >= 0.5) + (at >= 0.75)))
    return recipe.learning_rate


def optimizer(modules: Sequence[Module], recipe: Recipe) -> Any:
    """The optimizer of all that the modules train. ModelError where that is nothing."""
    from torch import optim

    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not trained:
        raise ModelError("the net has nothing to train: no parameter wants a gradient")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    kind = {"adamw": optim.AdamW, "adam": optim.Adam}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate)
