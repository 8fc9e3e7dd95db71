"""The raw shape of a pipeline's spec file (`kind: pipeline`): what a user may write.

As in `raw.py`, field docstrings are the help texts of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repo_builder.spec.raw import Named
from repo_builder.spec.raw_base import Raw
from repo_builder.spec.raw_postprocess import RawNms

KINDS = ("model", "preprocess", "nms", "top_k")
"""What a step may be: each names a key of `RawStage`."""


class RawTopK(Raw):
    """The best classes, with their labels."""

    labels: str
    """A text file with one label a line, relative to this spec."""
    k: Annotated[int, Field(ge=1)] = 1
    """How many, best first."""
    softmax: bool = False
    """Turn scores into probabilities first."""


class RawStage(Raw):
    """A step: a model of the same target, or something small before or behind one."""

    model: str | None = None
    """A model by its name."""
    preprocess: str | None = None
    """Image files (PNG, JPEG, ...) become what this model takes, as its `preprocess` says."""
    nms: RawNms | None = None
    top_k: RawTopK | None = None
    inputs: Annotated[dict[str, str], Field(min_length=1)]
    """Input of the step -> where it comes from: `step.output`, or an input of the pipeline."""

    @model_validator(mode="after")
    def _one_kind(self) -> RawStage:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            said = " and ".join(given) if given else "nothing"
            raise ValueError(f"is {said}; write exactly one of: {', '.join(KINDS)}")
        return self


class RawPipelineOverride(Raw):
    """What is different on one target."""

    latency_budget_ms: Annotated[float, Field(gt=0)] | None = None
    """All stages together may take this long on this target."""
    capture_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the sensor takes on this target."""
    transfer_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long a request and its answer are on their way to and from this target."""


class RawPipeline(Named):
    """A spec file of `kind: pipeline`: models and small steps, served as one model."""

    kind: Literal["pipeline"]
    """Tells a pipeline from a model."""
    inputs: Annotated[list[str], Field(min_length=1)]
    """Names of what a request brings; types and shapes are those of the steps that read it."""
    steps: Annotated[dict[str, RawStage], Field(min_length=1)]
    """Name -> step; the order follows from what reads what."""
    outputs: Annotated[dict[str, str], Field(min_length=1)]
    """Name in the answer -> `step.output`."""
    sample: dict[str, str]
    """Input -> a file to run the pipeline on: an image as it is, or a .npy array."""
    latency_budget_ms: Annotated[float, Field(gt=0)] | None = None
    """All stages together may take this long; a pipeline that takes longer is not published."""
    capture_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the sensor takes, which a build cannot measure."""
    transfer_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long a request and its answer are on their way, which a build cannot measure."""
    overrides: dict[str, RawPipelineOverride] = Field(default={})
    """Target -> what is different there."""
