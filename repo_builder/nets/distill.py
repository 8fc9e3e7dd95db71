"""Distillation: a net learns a teacher's answers beside the labels, and may learn its features.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531; for
features Romero et al.: FitNets, 2015, arXiv:1412.6550. What the teacher says is computed before,
as arrays beside the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from repo_builder.base.digest import Json
from repo_builder.base.errors import DataError, ModelError
from repo_builder.nets.losses import LOGITS, Answers, Array, Ramp, Task

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict


@dataclass(frozen=True)
class Distilled:
    """alpha * T^2 * KL(softmax(teacher / T) || softmax(net / T)) + (1 - alpha) * cross entropy.

    Each term is a mean over all rows (and positions); rows without a label, whose class is less
    than 0, add nothing to the second. T^2 keeps the weight of the first against the second, as its
    gradients shrink with 1 / T^2. `task` reads logits [n, classes, ...]; the array LOGITS holds
    the teacher's, of the same shape.

    `features` maps modules of the net to arrays of the teacher: `feature_weight` times the mean
    squared error, after a linear map along the one axis on which they differ (of channels: a 1x1
    convolution), is added for each; the maps are trained along and then thrown away.
    """

    task: Task
    temperature: Ramp = field(default_factory=lambda: Ramp.constant(4.0))
    alpha: Ramp = field(default_factory=lambda: Ramp.constant(0.9))
    features: Mapping[str, str] = field(default_factory=dict)
    feature_weight: float = 1.0

    @property
    def watched(self) -> tuple[str, ...]:
        """The modules that learn features."""
        return tuple(self.features)

    @property
    def higher_is_better(self) -> bool:
        """The score is that of the task."""
        return self.task.higher_is_better

    def identity(self) -> Json:
        """Its fields."""
        return {**asdict(self), "features": dict(self.features)}

    def prepare(self, answers: Answers, arrays: Mapping[str, Array]) -> ModuleDict:
        """The maps of features. DataError: the teacher has other classes, or shapes do not fit."""
        import torch

        if self.task.name != "cross_entropy":
            raise ModelError(
                f"distillation softens classes, the loss is {self.task.name}; use cross_entropy"
            )
        self.task.prepare(answers, arrays)
        student = list(answers.outputs[self.task.output].shape[1:])
        teacher = list(arrays[LOGITS].shape[1:])
        if student != teacher:
            raise DataError(
                f"the teacher answers {teacher} a row, the net {student}; use a teacher of the "
                "same classes, in the same order"
            )
        along = torch.nn.ModuleDict()
        for module, name in self.features.items():
            ours, theirs = list(answers.features[module].shape), list(arrays[name].shape)
            axis = _differing_axis(module, ours, name, theirs)
            if axis is not None:
                along[_key(module)] = torch.nn.Linear(ours[axis], theirs[axis])
        return along

    def loss(
        self, answers: Answers, arrays: Mapping[str, Tensor], at: float, along: ModuleDict
    ) -> Tensor:
        """The loss above, with temperature and alpha as they are at the share `at`."""
        from torch.nn import functional

        alpha = self.alpha(at)
        soft = soft_loss(answers.outputs[self.task.output], arrays[LOGITS], self.temperature(at))
        hard, _ = self.task.each(answers, arrays)
        total = alpha * soft + (1 - alpha) * hard.mean()
        for module, name in self.features.items():
            ours, theirs = answers.features[module], arrays[name]
            if _key(module) in along:
                (axis,) = (a for a in range(1, ours.ndim) if ours.shape[a] != theirs.shape[a])
                ours = along[_key(module)](ours.movedim(axis, -1)).movedim(-1, axis)
            total = total + self.feature_weight * functional.mse_loss(ours, theirs)
        return total

    def score(self, answers: Answers, arrays: Mapping[str, Tensor]) -> tuple[float, int]:
        """As of the task."""
        return self.task.score(answers, arrays)


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), classes on axis 1, as a mean."""
    from torch.nn import functional

    ours = functional.log_softmax(student / temperature, dim=1)
    theirs = functional.log_softmax(teacher.to(student.dtype) / temperature, dim=1)
    divergence = functional.kl_div(ours, theirs, reduction="none", log_target=True)
    return temperature**2 * divergence.sum(dim=1).mean()


def _differing_axis(module: str, ours: list[int], name: str, theirs: list[int]) -> int | None:
    """The one axis on which features differ; None where they are of one shape."""
    if len(ours) == len(theirs):
        axes = [axis for axis in range(1, len(ours)) if ours[axis] != theirs[axis]]
        if len(axes) <= 1:
            return axes[0] if axes else None
    raise DataError(
        f"'{module}' gives {ours[1:]} a row, the teacher's '{name}' {theirs[1:]}; they may differ "
        "on one axis: name others"
    )


def _key(module: str) -> str:
    return module.replace(".", "/")  # ModuleDict takes no dots
