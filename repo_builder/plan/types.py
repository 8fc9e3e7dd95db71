"""What a plan is made of. All frozen; nothing here reads or writes anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from repo_builder.base.artifact import Interface
from repo_builder.base.digest import Json
from repo_builder.spec.released import Released
from repo_builder.spec.types import Pipeline, Source, Spec
from repo_builder.targets import Target


@dataclass(frozen=True)
class Declaration:
    """What a plan must know of a step.

    `tools` are the distributions whose versions shape the output and so enter the key; `extra` is
    the extra of this project that installs them. An `exclusive` step runs while no other does,
    since it measures time. One that is not done after `limit_s` seconds hangs and is stopped.
    `keeps` names a folder of the store for what its tool remembers from run to run.
    """

    name: str
    version: int
    tools: tuple[str, ...] = ()
    extra: str = "build"
    exclusive: bool = False
    limit_s: float | None = None
    keeps: str = ""


@dataclass(frozen=True)
class SourceFiles:
    """An input that comes from the user's disk: name in the artifact -> (path, sha256)."""

    files: Mapping[str, tuple[Path, str]]


@dataclass(frozen=True)
class ArtifactRef:
    """An input that another step makes: that step's key."""

    key: str


Input = Union[SourceFiles, ArtifactRef]


@dataclass(frozen=True)
class Node:
    """One step to run: what it is given, and the key of its result.

    `resources` names the hardware that a worker must have, e.g. `{"tensorrt": 1}`; it enters no
    key, since it does not shape the result. A `slow` one may take as long as all others together,
    as a simulator does: what leads to it is started first, lest it end up running alone.
    """

    key: str
    step: str
    params: Mapping[str, Json]
    inputs: Mapping[str, Input]
    recipe: Mapping[str, Any]
    resources: Mapping[str, int] = field(default_factory=dict)
    slow: bool = False


@dataclass(frozen=True)
class Variant:
    """A model@target: its steps in order (step name -> key), and which of them makes the model.

    `why_not_executed` says what of the target was not here when its model ran in another device's
    runtime; "" where the runtime that serves it was here.
    """

    spec: Spec
    target: Target
    steps: Mapping[str, str]
    compiled: str
    why_not_executed: str = ""

    @property
    def compiled_key(self) -> str:
        """The key of the model that is served."""
        return self.steps[self.compiled]


@dataclass(frozen=True)
class PipelineVariant:
    """A pipeline@target: its steps, and the variants of its models by name.

    `interfaces` has the tensors of every stage, `order` the stages as they run, and
    `stage_keys` the keys of the steps that make those of its stages that are no models. `run` is
    the step that tries it all.
    """

    spec: Pipeline
    target: Target
    steps: Mapping[str, str]
    models: Mapping[str, Variant]
    interfaces: Mapping[str, Interface]
    order: tuple[str, ...]
    stage_keys: Mapping[str, str]
    run: str

    @property
    def why_not_executed(self) -> str:
        """As of `Variant`: what of the target was not here; of the first model that says so."""
        reasons = (model.why_not_executed for model in self.models.values())
        return next(filter(None, reasons), "")


@dataclass(frozen=True)
class Plan:
    """All nodes by key, in an order in which they can run, and the variants they serve."""

    nodes: Mapping[str, Node]
    variants: tuple[Variant, ...]
    pipelines: tuple[PipelineVariant, ...] = ()

    @property
    def all_variants(self) -> tuple[Variant | PipelineVariant, ...]:
        """Models first, then the pipelines that use them."""
        return (*self.variants, *self.pipelines)

    def users(self, key: str) -> list[Variant | PipelineVariant]:
        """The variants that a node serves."""
        return [variant for variant in self.all_variants if key in variant.steps.values()]


@dataclass(frozen=True)
class Pins:
    """What the disk and the environment hold: content digests of files, versions of tools.

    `files` maps a path that a spec names, or its model, to its files, name in the artifact ->
    (path, sha256): one for data and weights, one or more for a model with external data, or for
    code that imports more of it. A tool that is not installed is None. `interfaces` says what a
    model's file or its spec declares; None where it cannot be read. `arrays` has the shapes of the
    arrays in a file of data.
    """

    files: Mapping[Union[Path, Source, Released], Mapping[str, tuple[Path, str]]]
    tools: Mapping[str, str | None]
    interfaces: Mapping[Source, Interface | None] = field(default_factory=dict)
    arrays: Mapping[Path, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
