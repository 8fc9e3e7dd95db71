"""Training on this machine's CPU: the same inputs, seed and threads give the same bytes.

`fit` is the path. Everything random comes from the seed and the number of the epoch, and the
learning rate from the number of the step, so that a checkpoint holds tensors and a history and
nothing else; a run that was killed goes on from the last whole epoch and ends as if it had not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base import digest
from repo_builder.base.errors import DataError, ModelError
from repo_builder.nets import checkpoint as checkpoints
from repo_builder.nets.losses import Answers, Objective, Task, mean_score, tensors
from repo_builder.nets.recipe import Recipe, learning_rate, optimizer
from repo_builder.nets.training_data import Rows, check, digests

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Call = Callable[[Mapping[str, "Tensor"]], "tuple[Tensor, ...]"]

__all__ = ["Epoch", "Recipe", "Rows", "Trained", "fit", "outputs"]

_SCORED = 256
"""Least rows in a batch of validation."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the rows: its number from 1, the mean loss, the score, the rate at its end."""

    epoch: int
    loss: float
    score: float | None
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """How training went; the net holds the weights of `best_epoch`, and is in eval mode.

    That is the epoch with the best score on the validation rows, the last one without such rows;
    `score` is its score. `stopped` says why training ended before its time, "" where it did not;
    `diverged`: because something was no number any more.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    score: float | None
    stopped: str = ""
    diverged: bool = False


def fit(
    net: Module,
    rows: Rows,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[Epoch], None] | None = None,
    call: Call | None = None,
) -> Trained:
    """Train `net` in place; without an `objective` for `recipe.loss` and the array `rows.target`.

    `checkpoint` is written after every epoch. Where it is there and from the same weights, rows,
    recipe and objective, training goes on from it; anything else in it is passed over.
    `progress` is told of every epoch. `call` gives the net a batch, by name, and its outputs in
    order; without it inputs go in by the order of `rows.inputs`.

    A loss that is no number ends training with the weights of the best epoch before. DataError,
    ModelError: rows, net and objective do not fit, or the loss is no number in the first epoch.
    """
    goal = objective or Task(recipe.loss, rows.target)
    check(rows)
    if recipe.early_stop is not None and not rows.validation:
        raise DataError("early stop needs validation rows; give some, or leave it out")
    with _deterministic(recipe.threads):
        training = _Training(net, rows, recipe, goal, checkpoint, call)
        return training.run(progress or (lambda _: None))


class _Diverged(Exception):
    """Something is no number any more."""


class _Training:
    def __init__(
        self,
        net: Module,
        rows: Rows,
        recipe: Recipe,
        goal: Objective,
        checkpoint: Path | None,
        call: Call | None,
    ) -> None:
        import torch

        self.net = net
        self.rows = rows
        self.recipe = recipe
        self.goal = goal
        self.checkpoint = checkpoint
        self.call = call or self._in_order
        self.count = len(rows.train[rows.inputs[0]])
        self.batches = math.ceil(self.count / recipe.batch_size)
        self.features: dict[str, Tensor] = {}
        self.history: list[Epoch] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] = {}
        self.stopped = ""
        # Whose weights they were, before anything is trained.
        self.identity = self._identity() if checkpoint else ""
        torch.manual_seed(recipe.seed)
        with self._watching():
            self.along = goal.prepare(self._first_answers(), rows.train)
        self.optimizer = optimizer([net, self.along], recipe)

    def run(self, tell: Callable[[Epoch], None]) -> Trained:
        self._resume()
        diverged = False
        with self._watching():
            while not self.stopped and len(self.history) < self.recipe.epochs:
                try:
                    epoch = self._epoch(len(self.history) + 1)
                except _Diverged as failure:
                    self._stop(str(failure))
                    diverged = True
                    break
                self._keep(epoch)
                tell(epoch)
        self.net.load_state_dict(self.best)
        self.net.eval()
        score = self.history[self.best_epoch - 1].score
        return Trained(tuple(self.history), self.best_epoch, score, self.stopped, diverged)

    def _epoch(self, number: int) -> Epoch:
        """Train for one epoch. `_Diverged`: the loss, the weights or the score are no numbers."""
        import torch

        seed = [self.recipe.seed, number]
        random = np.random.default_rng(seed)
        torch.manual_seed(int(random.integers(1 << 62)))  # for dropout
        order = random.permutation(self.count)
        steps, total, rate = self.batches * self.recipe.epochs, 0.0, 0.0
        self.net.train()
        # Of almost one size: a last batch of a single row has no variance for batch norm.
        for batch, chosen in enumerate(np.array_split(order, self.batches)):
            step = (number - 1) * self.batches + batch
            rate = learning_rate(self.recipe, step / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            arrays = tensors(self.rows.train, chosen)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.goal.loss(self._answers(arrays), arrays, step / steps, self.along)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _Diverged(f"the loss is {value} in epoch {number}, batch {batch + 1}")
            loss.backward()
            self.optimizer.step()
            total += value * len(chosen)
        if not all(bool(tensor.isfinite().all()) for tensor in self.net.state_dict().values()):
            raise _Diverged(f"the weights are no numbers after epoch {number}")
        score = self._score()
        if score is not None and not math.isfinite(score):
            raise _Diverged(f"the score on the validation rows is {score} after epoch {number}")
        return Epoch(number, total / self.count, score, rate)

    def _stop(self, why: str) -> None:
        """Training cannot go on. ModelError where it leaves nothing to keep."""
        if not self.history:
            raise ModelError(f"{why}; lower the learning rate, or look at the rows")
        self.stopped = why

    def _keep(self, epoch: Epoch) -> None:
        """Take a new epoch into the history, and onto the disk."""
        self.history.append(epoch)
        if self.best_epoch == 0 or self._better(epoch, self.history[self.best_epoch - 1]):
            self.best_epoch = epoch.epoch
            self.best = checkpoints.state(self.net)
        patience = self.recipe.early_stop
        if patience is not None and epoch.epoch - self.best_epoch >= patience:
            self.stopped = f"no better score for {patience} epochs"
        if self.checkpoint:
            checkpoints.write(self.checkpoint, self._state(), self._about())

    def _better(self, new: Epoch, best: Epoch) -> bool:
        if new.score is None or best.score is None:
            return True
        return new.score > best.score if self.goal.higher_is_better else new.score < best.score

    def _score(self) -> float | None:
        """The score of the validation rows."""
        if not self.rows.validation:
            return None
        self.net.eval()
        batch = max(self.recipe.batch_size, _SCORED)
        return mean_score(self.goal, self._answers, self.rows.validation, batch)

    def _answers(self, arrays: Mapping[str, Tensor]) -> Answers:
        self.features.clear()
        return Answers(self.call(arrays), dict(self.features))

    def _in_order(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return outputs(self.net(*(arrays[name] for name in self.rows.inputs)))

    def _first_answers(self) -> Answers:
        """To two rows. ModelError where the net does not take them."""
        import torch

        arrays = tensors(self.rows.train, np.arange(min(2, self.count)))
        self.net.eval()
        try:
            with torch.no_grad():
                return self._answers(arrays)
        except (RuntimeError, TypeError, ValueError, IndexError) as failure:
            shapes = ", ".join(
                f"'{name}' {arrays[name].dtype} {list(arrays[name].shape)}".replace("torch.", "")
                for name in self.rows.inputs
            )
            what = str(failure).strip().splitlines()[0]
            raise ModelError(f"the net does not take {shapes}: {what}") from failure

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """While this is open, `features` has what the watched modules gave last."""
        hooks = []
        modules = dict(self.net.named_modules())
        for name in self.goal.watched:
            if name not in modules:
                raise ModelError(
                    f"the net has no module '{name}'; it has: {', '.join(filter(None, modules))}"
                )

            def keep(_module: Module, _given: Any, output: Tensor, name: str = name) -> None:
                self.features[name] = output

            hooks.append(modules[name].register_forward_hook(keep))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _identity(self) -> str:
        """The digest of all that decides what the checkpoint holds."""
        return digest.of_json(
            {
                "recipe": dataclasses.asdict(self.recipe),
                "objective": self.goal.identity(),
                "inputs": list(self.rows.inputs),
                "weights": digest.of_bytes(checkpoints.dump(checkpoints.state(self.net))),
                "train": digests(self.rows.train),
                "validation": digests(self.rows.validation),
            }
        )

    def _state(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint: weights, the best ones, the optimizer's, those along."""
        parts = {
            "net": checkpoints.state(self.net),
            "best": self.best,
            "along": checkpoints.state(self.along),
        }
        for number, state in self.optimizer.state_dict()["state"].items():
            parts[f"optimizer {number}"] = state
        return {f"{part}:{name}": t for part, state in parts.items() for name, t in state.items()}

    def _about(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
        }

    def _resume(self) -> None:
        """Go on from the checkpoint, where it is of this training."""
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        try:
            stored, about = checkpoints.read(self.checkpoint)
        except ModelError:
            return  # it only saves time
        if about.get("identity") != self.identity:
            return
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in stored.items():
            part, _, rest = name.partition(":")
            parts.setdefault(part, {})[rest] = tensor
        self.net.load_state_dict(parts["net"])
        self.along.load_state_dict(parts.get("along", {}))
        self.best = parts["best"]
        of_optimizer = {
            int(part.split()[1]): state
            for part, state in parts.items()
            if part.startswith("optimizer ")
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": of_optimizer, "param_groups": groups})
        self.history = [Epoch(**epoch) for epoch in about["history"]]
        self.best_epoch, self.stopped = about["best_epoch"], about["stopped"]


def outputs(given: Any) -> tuple[Tensor, ...]:
    """What a net returned, in order: a tensor, several, or several by name. ModelError: else."""
    import torch

    values = given.values() if isinstance(given, Mapping) else given
    found = (given,) if isinstance(given, torch.Tensor) else tuple(values)
    if not all(isinstance(output, torch.Tensor) for output in found):
        raise ModelError("the net must return tensors: one, a tuple, or a dict of them")
    return found


@contextlib.contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """While this is open, torch computes the same bytes each time, on so many threads."""
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
