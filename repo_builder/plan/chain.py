"""The steps of one model@target while they are put together; makes the keys.

A step's key is the digest of its recipe: step, version, parameters, the content digests or keys of
its inputs, and the versions of the tools that shape its output (see docs/adr/0002). Equal recipes
are one node, so what several targets share runs once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from repo_builder.base import digest
from repo_builder.base.digest import Json
from repo_builder.plan import front
from repo_builder.plan.types import ArtifactRef, Declaration, Input, Node, Pins, SourceFiles
from repo_builder.spec.released import Released
from repo_builder.spec.types import Source, Spec
from repo_builder.targets import Target


@dataclass
class Chain:
    """The steps of one variant while they are put together.

    With `only_compiled` a recipe ends with the compiled model, which another is measured beside.
    """

    spec: Spec
    target: Target
    declarations: Mapping[str, Declaration]
    pins: Pins
    nodes: dict[str, Node]
    steps: dict[str, str] = field(default_factory=dict)
    compiled: str = ""
    why_not_executed: str = ""
    only_compiled: bool = False

    def add(
        self,
        step: str,
        params: Mapping[str, Json],
        *,
        resources: Mapping[str, int] | None = None,
        called: str = "",
        slow: bool = False,
        **inputs: Input | None,
    ) -> ArtifactRef:
        """Add a step; an input that is None is left out. Returns its output.

        `called`: its name in the chain, where that has another of the same kind. `slow`: as in
        `Node`.
        """
        made = node(step, params, inputs, self.declarations, self.pins, resources, slow)
        self.nodes.setdefault(made.key, made)
        self.steps[called or step] = made.key
        return ArtifactRef(made.key)

    def file(self, named: Path | Source | Released) -> SourceFiles:
        """A file that the spec names, or what its model is made of, as an input."""
        return SourceFiles(self.pins.files[named])

    @property
    def calibration(self) -> Input | None:
        """The calibration data, where the spec has some."""
        if self.spec.calibration is None:
            return None
        return self.images(self.file(self.spec.calibration.path), "calibration")

    @property
    def evaluation(self) -> Input | None:
        """The evaluation data, where the spec has some, with the user's own metric beside it."""
        evaluation = self.spec.evaluation
        if evaluation is None:
            return None
        own = self.pins.files[evaluation.own.file] if evaluation.own else {}
        files = SourceFiles({**self.pins.files[evaluation.path], **own})
        return self.images(files, "evaluation")

    def images(self, data: SourceFiles, called: str) -> Input:
        """Data as the model takes it: rows that are inputs of the net become images."""
        recipe = front.of(self.spec)
        if recipe is None:
            return data
        return self.add("to-images", {"recipe": recipe}, called=f"{called}-to-images", data=data)


def node(
    step: str,
    params: Mapping[str, Json],
    inputs: Mapping[str, Input | None],
    declarations: Mapping[str, Declaration],
    pins: Pins,
    resources: Mapping[str, int] | None = None,
    slow: bool = False,
) -> Node:
    """A step as a node, with its key; an input that is None is left out."""
    declaration = declarations[step]
    given = {name: value for name, value in inputs.items() if value is not None}
    recipe: dict[str, Json] = {
        "step": step,
        "version": declaration.version,
        "params": params,
        "inputs": {name: _identity(value) for name, value in given.items()},
        "tools": {tool: pins.tools[tool] for tool in declaration.tools},
    }
    return Node(digest.of_json(recipe), step, params, given, recipe, resources or {}, slow)


def _identity(value: Input) -> Json:
    if isinstance(value, ArtifactRef):
        return value.key
    return {name: sha256 for name, (_, sha256) in sorted(value.files.items())}
