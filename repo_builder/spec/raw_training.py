"""The raw shape of `optimize.train` and `optimize.distill`.

As in `raw.py`, field docstrings are the help texts of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Union

from pydantic import Field

from repo_builder.spec.raw_base import Raw
from repo_builder.spec.training import LossName, OptimizerName, RampShape, ScheduleName


class RawOwnLoss(Raw):
    """A loss function of your own."""

    file: str
    """A Python file with the function, beside the spec. It runs in the build: it is your code."""
    function: str = "loss"
    """Its name: `def loss(outputs, arrays): ...` gets the net's outputs and all arrays of a batch
    as tensors by name, and returns one number computed with torch."""


class RawTrain(Raw):
    """Train the PyTorch net of this spec before it is exported."""

    data: str
    """A .npz file with one array per input of the net, named like it, and the target."""
    validation: str | None = None
    """Rows of the same arrays that score each epoch; the weights of the best one are kept."""
    target: str = "label"
    """The array with what is to be learnt; a class less than 0 is no label."""
    output: str | None = None
    """The net's output that learns it; its first, where it is not given."""
    loss: LossName = "cross_entropy"
    """cross_entropy and bce take logits."""
    own: RawOwnLoss | None = None
    """A function in place of `loss`."""
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    """How often all rows are gone through."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    optimizer: OptimizerName = "adamw"
    """adamw, adam, or sgd with Nesterov's momentum of 0.9."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: ScheduleName = "cosine"
    """Of the learning rate: cosine falls to 0, step to a tenth after a half and to a hundredth
    after three quarters of the training."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of tensors with two and more axes."""
    early_stop: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs without a better score on the validation rows."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Of the order of rows, of dropout, and of the first weights where the source has none."""
    quantization_aware: bool = False
    """Round weights to the 4 bits of `quantization` while the net is trained."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads that compute; others give other roundings, so they are part of the result."""


class RawRamp(Raw):
    """A value that changes while the net is trained."""

    start: Annotated[float, Field(ge=0)]
    end: Annotated[float, Field(ge=0)]
    shape: RampShape = "linear"


class RawDistill(Raw):
    """Let the net learn from a teacher while it is trained."""

    teacher: str
    """The name of another spec of the build, or an ONNX file."""
    output: str | None = None
    """The teacher's output of logits; its first, where it is not given."""
    temperature: Union[Annotated[float, Field(gt=0)], RawRamp] = 4.0
    """Divides the logits of both; more shows more of what the teacher holds for alike."""
    alpha: Union[Annotated[float, Field(ge=0, le=1)], RawRamp] = 0.9
    """The weight of the teacher; that of the labels is 1 - alpha."""
    features: dict[str, str] = Field(default={})
    """Module of the net -> tensor of the teacher's ONNX that it learns too."""
    feature_weight: Annotated[float, Field(gt=0)] = 1.0
    """The weight of each feature's mean squared error."""
