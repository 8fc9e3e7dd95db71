"""What steps that train share: rows from .npz files, mapped; the objective; the checkpoint."""

from __future__ import annotations

import shutil
import types
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base import digest, progress
from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError, ModelError, did_you_mean
from repo_builder.nets.distill import Distilled
from repo_builder.nets.fake_quant import Grid
from repo_builder.nets.losses import LOGITS, Objective, Own, Ramp, Task
from repo_builder.nets.train import Epoch, Recipe, Rows
from repo_builder.nets.types import Net
from repo_builder.steps import _data, _grid
from repo_builder.steps._data import Array

TRAIN, VALIDATION, LOSS = "train.npz", "validation.npz", "loss.py"
"""Names of the user's files in the folder of training data."""

KEPT = "training"
"""The store's folder of checkpoints."""


@dataclass(frozen=True)
class Distillation:
    """See `repo_builder.spec.training.Distillation`."""

    temperature: Ramp
    alpha: Ramp
    features: Mapping[str, str] = field(default_factory=dict)
    feature_weight: float = 1.0


@dataclass(frozen=True)
class Aware:
    """How weights get 4 bits later: with activations in ranges that are `stored`, or without."""

    stored: bool
    symmetric: bool

    @property
    def grid(self) -> Grid:
        """As of `quantize`: each channel, also of convolutions; or of `quantize-weights`."""
        if self.stored:
            return Grid(4, 0, symmetric=True, convolutions=True)
        return Grid(4, _grid.BLOCK, self.symmetric)


@dataclass(frozen=True)
class Training:
    """See `repo_builder.spec.training.Training`; `own` is a function in `loss.py`, "" for none.

    `aware`: forward sees weights as they are quantized later; None: as they are.
    """

    recipe: Recipe
    target: str
    output: str
    own: str = ""
    distillation: Distillation | None = None
    aware: Aware | None = None


@dataclass(frozen=True)
class Prepared:
    """What `fit` takes."""

    rows: Rows
    objective: Objective


def prepare(data: Path, soft: Path | None, net: Net, training: Training, scratch: Path) -> Prepared:
    """Rows of the files in `data`, with what `soft_targets` made in `soft`, and the objective.

    Arrays are unpacked into `scratch` and mapped. DataError: files or arrays that do not fit the
    net. ModelError: it takes no batches, or has no such output.
    """
    if not net.batch:
        raise ModelError(f"{net.factory} takes no batches of rows, which training needs")
    objective = _objective(data, net, training)
    train = _arrays(data / TRAIN, scratch / "train", net, training)
    if soft is not None and training.distillation is not None:
        train |= _soft(soft, training.distillation)
    validation = {}
    if (data / VALIDATION).is_file():
        validation = _arrays(data / VALIDATION, scratch / "validation", net, training)
    names = tuple(tensor.name for tensor in net.inputs)
    return Prepared(Rows(names, train, validation, training.target), objective)


def checkpoint(kept: Path, identity: digest.Json) -> Path:
    """The file in the store's folder `kept` for the training that `identity` tells apart."""
    kept.mkdir(parents=True, exist_ok=True)
    return kept / f"{digest.of_json(identity)[:32]}.safetensors"


def tell(epoch: Epoch, recipe: Recipe) -> None:
    """Say how far training is."""
    score = "" if epoch.score is None else f", score {epoch.score:.4g}"
    progress.tell(f"epoch {epoch.epoch}/{recipe.epochs}, loss {epoch.loss:.4g}{score}")


def mapped(file: Path, folder: Path) -> dict[str, Array]:
    """All arrays of an .npz file, unpacked into the new folder `folder` and mapped from there.

    NumPy maps no arrays inside an .npz, whatever it is asked. DataError: missing, damaged, or
    holding Python objects.
    """
    if not file.is_file():
        raise DataError(f"{file.name} is missing; write it with numpy.savez_compressed")
    folder.mkdir(parents=True)
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(file) as stored:
            for number, name in enumerate(stored.namelist()):
                unpacked = folder / f"{number}.npy"
                with stored.open(name) as source, unpacked.open("wb") as target:
                    shutil.copyfileobj(source, target)
                found[name.removesuffix(".npy")] = np.load(
                    unpacked, mmap_mode="r", allow_pickle=False
                )
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as failure:
        raise DataError(
            f"{file.name} is no .npz of plain arrays, or damaged; write it with "
            "numpy.savez_compressed"
        ) from failure
    return found


def loss_function(file: Path, name: str) -> Callable[..., Any]:
    """The user's function `name` of the Python file. ModelError: no such function, or it fails."""
    module = types.ModuleType("loss")
    try:
        exec(compile(file.read_bytes(), file.name, "exec"), vars(module))  # noqa: S102 - the user's
    except Exception as failure:
        what = " ".join(f"{type(failure).__name__}: {failure}".split())
        raise ModelError(f"{file.name} cannot be loaded: {what}") from failure
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ModelError(f"{file.name} has no function '{name}'; {did_you_mean(name, known)}")
    found: Callable[..., Any] = function
    return found


def _objective(data: Path, net: Net, training: Training) -> Objective:
    if training.own:
        return Own(loss_function(data / LOSS, training.own), net.outputs)
    name = training.output or net.outputs[0]
    if name not in net.outputs:
        raise ModelError(f"the net has no output '{name}'; {did_you_mean(name, net.outputs)}")
    task = Task(training.recipe.loss, training.target, net.outputs.index(name))
    asked = training.distillation
    if asked is None:
        return task
    arrays = {module: feature(number) for number, module in enumerate(sorted(asked.features))}
    return Distilled(task, asked.temperature, asked.alpha, arrays, asked.feature_weight)


def feature(number: int) -> str:
    """The array of a feature of the teacher: ONNX allows names that files do not."""
    return f"{LOGITS}.{number}"


def _arrays(file: Path, folder: Path, net: Net, training: Training) -> dict[str, Array]:
    """The inputs of the net, checked, and the target; for an own loss all that the file has."""
    stored = mapped(file, folder)
    inputs = [Tensor(t.name, t.dtype, ("rows", *t.shape[1:])) for t in net.inputs]
    _data.check(stored, inputs, file.name)
    rows = len(stored[inputs[0].name])
    if training.own:
        return stored
    names = [tensor.name for tensor in inputs]
    if training.target not in stored:
        if training.distillation is None:
            hint = did_you_mean(training.target, stored.keys() - names)
            raise DataError(f"{file.name} has no array '{training.target}' to learn; {hint}")
        stored[training.target] = np.full(rows, -1)  # a teacher needs no labels
    return {name: stored[name] for name in (*names, training.target)}


def _soft(folder: Path, asked: Distillation) -> dict[str, Array]:
    """What the teacher said about the training rows."""
    names = [LOGITS, *(feature(number) for number in range(len(asked.features)))]
    return {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in names}
