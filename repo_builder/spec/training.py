"""How a PyTorch net is trained and distilled, resolved: every default is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["cosine", "constant", "step"]
LossName = Literal["cross_entropy", "mse", "l1", "bce"]
RampShape = Literal["linear", "cosine"]


@dataclass(frozen=True)
class OwnLoss:
    """A loss of the user's: `function(outputs, arrays)` in `file`, which gives one number."""

    file: Path
    function: str


@dataclass(frozen=True)
class Ramp:
    """A value that goes from `start` to `end` while the net is trained."""

    start: float
    end: float
    shape: RampShape = "linear"


@dataclass(frozen=True)
class Distillation:
    """A teacher, and how much the net listens to it.

    `teacher` is what the spec says: the name of another spec, or an ONNX file. `onnx` is that
    file, else None. `output` is the teacher's of logits, "" for its first. `features` maps modules
    of the net to tensors of the teacher's ONNX.
    """

    teacher: str
    onnx: Path | None
    output: str
    temperature: Ramp
    alpha: Ramp
    features: Mapping[str, str] = field(hash=False)
    feature_weight: float


@dataclass(frozen=True)
class Training:
    """Rows, recipe and loss: see `repo_builder.nets.recipe.Recipe`.

    `data` and `validation` are .npz files with one array for each input and the array `target`.
    `output` is the net's that `loss` reads. `own` takes the place of `loss`. `quantization_aware`:
    forward sees weights as they are quantized later.
    """

    data: Path
    validation: Path | None
    target: str
    output: str
    loss: LossName
    own: OwnLoss | None
    epochs: int
    batch_size: int
    optimizer: OptimizerName
    learning_rate: float
    schedule: ScheduleName
    weight_decay: float
    early_stop: int | None
    seed: int
    threads: int
    quantization_aware: bool = False
