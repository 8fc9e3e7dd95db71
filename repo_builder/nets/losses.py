"""What a net is trained for: a loss by name, the user's own, or a teacher's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.digest import Json
from repo_builder.base.errors import DataError, ModelError, did_you_mean
from repo_builder.spec.training import LossName, RampShape

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

Array: TypeAlias = npt.NDArray[Any]

LOGITS = "teacher"
"""The array with the teacher's logits, one row for each of the training rows."""


@dataclass(frozen=True)
class Answers:
    """What a net gave for a batch: its outputs in order, and those of watched modules by name."""

    outputs: tuple[Tensor, ...]
    features: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What training makes small, and what tells whether the net is any good."""

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the net's modules whose outputs it reads."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a net with a higher score is better."""

    def identity(self) -> Json:
        """What sets it apart from others, as JSON."""

    def prepare(self, answers: Answers, arrays: Mapping[str, Array]) -> ModuleDict:
        """Modules that are trained along and then thrown away; mostly none.

        `answers` are the net's to the first rows of `arrays`, all that it is trained on. DataError
        or ModelError where they do not fit.
        """

    def loss(
        self, answers: Answers, arrays: Mapping[str, Tensor], at: float, along: ModuleDict
    ) -> Tensor:
        """A scalar; `at` is the share of the training that is done, 0 to 1."""

    def score(self, answers: Answers, arrays: Mapping[str, Tensor]) -> tuple[float, int]:
        """The sum of the scores of a batch, and of how many."""


@dataclass(frozen=True)
class Ramp:
    """A value that goes from `start` to `end` while the net is trained."""

    start: float
    end: float
    shape: RampShape = "linear"

    @classmethod
    def constant(cls, value: float) -> Ramp:
        """The same value all the time."""
        return cls(value, value)

    def __call__(self, at: float) -> float:
        """The value where the share `at` of the training, 0 to 1, is done."""
        share = at if self.shape == "linear" else (1 - math.cos(math.pi * at)) / 2
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Task:
    """A loss by name between an output and the array `target`.

    cross_entropy: logits [n, classes, ...] and classes [n, ...], where less than 0 is no label and
    counts nothing; scored by accuracy. bce: logits and 0 or 1 of the same shape; scored by the
    share of logits on the right side of 0. mse, l1: scored by themselves.
    """

    name: LossName
    target: str = "label"
    output: int = 0

    @property
    def watched(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def higher_is_better(self) -> bool:
        """Whether the score is a share of right answers."""
        return self.name in ("cross_entropy", "bce")

    def identity(self) -> Json:
        """Its fields."""
        return {"loss": self.name, "target": self.target, "output": self.output}

    def prepare(self, answers: Answers, arrays: Mapping[str, Array]) -> ModuleDict:
        """No modules. DataError: no such array, a shape that does not fit, an unknown class."""
        from torch.nn import ModuleDict

        output, target = _output(answers, self.output), _array(arrays, self.target)
        shape, wanted = tuple(output.shape), (len(output), *target.shape[1:])
        of = f"the target '{self.target}' is {target.dtype} {list(target.shape)}"
        if self.name != "cross_entropy":
            if shape != wanted:
                raise DataError(f"{of}, the net answers {list(shape[1:])} a row; make them equal")
            return ModuleDict()
        if target.dtype.kind not in "iu":
            raise DataError(f"{of}; cross_entropy needs whole numbers, the classes")
        if len(shape) < 2 or (len(shape), *shape[2:]) != (len(wanted) + 1, *wanted[1:]):
            raise DataError(
                f"{of}, the net answers {list(shape[1:])} a row; cross_entropy needs one class for "
                "every position of logits [classes, ...]"
            )
        if target.size and target.max() >= shape[1]:
            raise DataError(
                f"'{self.target}' has class {target.max()}, the net knows 0 to {shape[1] - 1}; "
                "mend the labels, or give the net more outputs"
            )
        return ModuleDict()

    def loss(
        self, answers: Answers, arrays: Mapping[str, Tensor], at: float, along: ModuleDict
    ) -> Tensor:
        """The mean over what is labelled; 0 where nothing is."""
        losses, labelled = self.each(answers, arrays)
        return losses.sum() / max(labelled, 1)

    def each(self, answers: Answers, arrays: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """The loss of every position, 0 where there is no label, and how many are labelled."""
        from torch.nn import functional

        output, target = answers.outputs[self.output], arrays[self.target]
        if self.name == "cross_entropy":
            known = target.long().clamp(min=-1)  # unlabelled ones are all called -1
            losses = functional.cross_entropy(output, known, reduction="none", ignore_index=-1)
            return losses, int((known >= 0).sum())
        functions: dict[str, Callable[..., Tensor]] = {
            "mse": functional.mse_loss,
            "l1": functional.l1_loss,
            "bce": functional.binary_cross_entropy_with_logits,
        }
        losses = functions[self.name](output, target.to(output.dtype), reduction="none")
        return losses, losses.numel()

    def score(self, answers: Answers, arrays: Mapping[str, Tensor]) -> tuple[float, int]:
        """Right answers, or the sum of the losses, and how many positions are labelled."""
        output, target = answers.outputs[self.output], arrays[self.target]
        if self.name == "cross_entropy":
            right = (output.argmax(dim=1) == target) & (target >= 0)
            return float(right.sum()), int((target >= 0).sum())
        if self.name == "bce":
            return float(((output > 0) == (target > 0.5)).sum()), output.numel()
        losses, count = self.each(answers, arrays)
        return float(losses.double().sum()), count


@dataclass(frozen=True)
class Own:
    """The user's loss: `function(outputs, arrays)` gets tensors by name and returns a scalar.

    `names` are those of the outputs. It also scores: lower is better.
    """

    function: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
    names: tuple[str, ...]

    @property
    def watched(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def higher_is_better(self) -> bool:
        """No: it is a loss."""
        return False

    def identity(self) -> Json:
        """Its name; what it computes is told by its file, which the caller knows."""
        return {"own": self.function.__name__, "outputs": list(self.names)}

    def prepare(self, answers: Answers, arrays: Mapping[str, Array]) -> ModuleDict:
        """No modules. ModelError: it fails, or gives no scalar that leads back to the net."""
        import torch

        name = self.function.__name__
        if len(answers.outputs) != len(self.names):
            raise ModelError(
                f"the net gives {len(answers.outputs)} outputs, the spec names {len(self.names)}"
            )
        rows = len(answers.outputs[0])
        few = {key: torch.from_numpy(np.array(array[:rows])) for key, array in arrays.items()}
        given = Answers(tuple(output.detach().requires_grad_() for output in answers.outputs))
        try:
            loss = self.loss(given, few, 0.0, torch.nn.ModuleDict())
        except Exception as failure:
            what = " ".join(f"{type(failure).__name__}: {failure}".split())
            raise ModelError(f"the loss {name}() failed: {what}") from failure
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ModelError(
                f"the loss {name}() must return one number that is computed from the outputs with "
                f"torch, not {type(loss).__name__}"
            )
        return torch.nn.ModuleDict()

    def loss(
        self, answers: Answers, arrays: Mapping[str, Tensor], at: float, along: ModuleDict
    ) -> Tensor:
        """What the function returns."""
        return self.function(dict(zip(self.names, answers.outputs, strict=True)), dict(arrays))

    def score(self, answers: Answers, arrays: Mapping[str, Tensor]) -> tuple[float, int]:
        """The loss, which is a mean, times the rows."""
        from torch.nn import ModuleDict

        rows = len(answers.outputs[0])
        return float(self.loss(answers, arrays, 1.0, ModuleDict())) * rows, rows


def mean_score(
    objective: Objective,
    answer: Callable[[Mapping[str, Tensor]], Answers],
    rows: Mapping[str, Array],
    batch: int,
) -> float:
    """The mean score of all `rows`, of which `answer` gets `batch` at most at once.

    DataError where none of them has a label.
    """
    import torch

    numbers = np.arange(len(next(iter(rows.values()))))
    total, count = 0.0, 0
    with torch.no_grad():
        for chosen in np.array_split(numbers, -(-len(numbers) // batch)):
            arrays = tensors(rows, chosen)
            added, more = objective.score(answer(arrays), arrays)
            total, count = total + added, count + more
    if count == 0:
        raise DataError("the validation rows have no labels; label them, or leave them out")
    return total / count


def tensors(arrays: Mapping[str, Array], chosen: Array) -> dict[str, Tensor]:
    """The rows with the numbers `chosen`, as tensors."""
    import torch

    return {name: torch.from_numpy(np.asarray(array[chosen])) for name, array in arrays.items()}


def _output(answers: Answers, number: int) -> Tensor:
    if number >= len(answers.outputs):
        raise ModelError(f"the net gives {len(answers.outputs)} outputs, none is number {number}")
    return answers.outputs[number]


def _array(arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        raise DataError(f"the training data have no array '{name}'; {did_you_mean(name, arrays)}")
    return arrays[name]
