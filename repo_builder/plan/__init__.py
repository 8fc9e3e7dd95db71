"""Decides what would run: specs x targets -> `Plan`. Pure: reads nothing, writes nothing.

`plan` below is the path: one recipe of `recipes` for each model@target puts a `chain` of steps
together, which makes the keys; `pipelines` adds theirs once `wiring` has found that their stages
fit. `why` says what changed since the last build. What a step does belongs to `steps/`, running it
to `run/`; what a plan must know of the disk comes in as `Pins`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repo_builder.base.errors import Problem, SpecError
from repo_builder.plan import pipelines
from repo_builder.plan.chain import Chain
from repo_builder.plan.recipes import RECIPES, rank
from repo_builder.plan.types import (
    ArtifactRef,
    Declaration,
    Input,
    Node,
    Pins,
    PipelineVariant,
    Plan,
    SourceFiles,
    Variant,
)
from repo_builder.plan.why import why
from repo_builder.spec.types import Pipeline, Spec
from repo_builder.targets import Target

__all__ = [
    "ArtifactRef",
    "Declaration",
    "Input",
    "Node",
    "Pins",
    "PipelineVariant",
    "Plan",
    "SourceFiles",
    "Variant",
    "plan",
    "rankings",
    "why",
]


def plan(
    specs: Sequence[Spec | Pipeline],
    targets: Mapping[str, Target],
    declarations: Mapping[str, Declaration],
    pins: Pins,
) -> Plan:
    """The plan that builds `specs`.

    SpecError where a target's toolchain has no recipe, or a pipeline does not fit together.
    """
    models = [spec for spec in specs if isinstance(spec, Spec)]
    _refuse_unbuildable(models, targets)
    nodes: dict[str, Node] = {}
    variants = []
    for spec in models:
        target = targets[spec.target]
        chain = Chain(spec, target, declarations, pins, nodes)
        RECIPES[target.runtime](chain)
        variants.append(Variant(spec, target, chain.steps, chain.compiled, chain.why_not_executed))
    joined = [spec for spec in specs if isinstance(spec, Pipeline)]
    made = pipelines.plan(joined, targets, variants, declarations, pins, nodes)
    return Plan(nodes, tuple(variants), made)


def rankings(
    specs: Sequence[Spec],
    targets: Mapping[str, Target],
    declarations: Mapping[str, Declaration],
    pins: Pins,
) -> Plan:
    """The plan that ranks the layers of each of `specs` by what int8 costs in them."""
    nodes: dict[str, Node] = {}
    variants = []
    for spec in specs:
        chain = Chain(spec, targets[spec.target], declarations, pins, nodes)
        rank(chain)
        variants.append(Variant(spec, chain.target, chain.steps, chain.compiled))
    return Plan(nodes, tuple(variants))


def _refuse_unbuildable(specs: Sequence[Spec], targets: Mapping[str, Target]) -> None:
    problems = [
        Problem(
            f"{spec.target} is compiled by {targets[spec.target].runtime}, which has no recipe",
            "remove it from `targets`",
            str(spec.file),
            field="targets",
        )
        for spec in specs
        if targets[spec.target].runtime not in RECIPES
    ]
    if problems:
        raise SpecError("targets that cannot be built:", problems)
