"""The raw shape of a pipeline's spec file (`kind: pipeline`): what a user may write.

As in `raw.py`, field docstrings are the help texts of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from repo_builder.spec.raw import Named
from repo_builder.spec.raw_base import Raw
from repo_builder.spec.raw_postprocess import RawNms

KINDS = ("model", "preprocess", "nms", "top_k")
"""What a step may be: each names a key of `RawStage`."""

BUDGETED = ("total", "queue", "preprocess", "infer", "postprocess")
"""What a budget may limit: what a build measures, and all of it."""


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


class RawBudget(Raw):
    """How long a request may take, in ms; a number alone is the `total`."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, given: Any) -> Any:
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not number and not isinstance(given, (dict, RawBudget)):
            raise ValueError("is neither a number of ms nor a mapping such as {total: 25}")
        return {"total": given} if number else given

    total: Annotated[float, Field(gt=0)] | None = None
    """All stages together, with what `capture_ms` and `transfer_ms` say."""
    queue: Annotated[float, Field(gt=0)] | None = None
    """What requests wait before all steps, together: only with a `rate`."""
    preprocess: Annotated[float, Field(gt=0)] | None = None
    """The steps that prepare images, together."""
    infer: Annotated[float, Field(gt=0)] | None = None
    """The models, together."""
    postprocess: Annotated[float, Field(gt=0)] | None = None
    """The steps behind the models, together."""

    rate: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Requests a second: all limits are kept at this rate too, through a Triton on the building
    machine; the total by 99 of 100 requests, a stage on average."""

    @model_validator(mode="after")
    def _some_limit(self) -> RawBudget:
        if not self.limits:
            raise ValueError(f"has no limit; write one of: {', '.join(BUDGETED)}")
        if self.queue is not None and self.rate is None:
            raise ValueError("limits the queue, which only load fills; write a `rate` beside it")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """Those that are given, by name."""
        found = {name: getattr(self, name) for name in BUDGETED}
        return {name: limit for name, limit in found.items() if limit is not None}


class RawPipelineOverride(Raw):
    """What is different on one target."""

    latency_budget_ms: RawBudget | None = None
    """How long a request may take on this target, in all or by stage."""
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
    latency_budget_ms: RawBudget | None = None
    """How long a request may take, in all or by stage; what takes longer is not published."""
    capture_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the sensor takes, which a build cannot measure."""
    transfer_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long a request and its answer are on their way, which a build cannot measure."""
    overrides: dict[str, RawPipelineOverride] = Field(default={})
    """Target -> what is different there."""
