"""From an outcome to what readers see: rows of the report, and each target's repository.

What failed keeps its previous good version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from repo_builder.base.errors import LintFailed
from repo_builder.build import assemble_pipeline
from repo_builder.build.assemble import assemble
from repo_builder.build.report.types import Row
from repo_builder.build.request import Request
from repo_builder.plan import PipelineVariant, Plan, Variant
from repo_builder.repository import multi_target
from repo_builder.repository.publish import Model, Published, publish
from repo_builder.run.execute import Outcome
from repo_builder.run.store import Store
from repo_builder.targets import Target


@dataclass
class _Assembled:
    """The rows so far, and each target's good models by name."""

    rows: list[Row] = field(default_factory=list)
    good: dict[str, dict[str, Model]] = field(default_factory=dict)

    def tried(self) -> set[tuple[str, str]]:
        """(model, target) of every row."""
        return {(row.name, row.target) for row in self.rows}


def publish_good(
    request: Request, the_plan: Plan, outcome: Outcome, store: Store
) -> tuple[tuple[Row, ...], dict[str, Mapping[str, object]]]:
    """Assemble every model@target, publish each target's good models, and say what became of all.

    Returns the rows of the report, and what was published by the name of its repository.
    """
    assembled = _assemble_all(request, the_plan, outcome, store)
    repositories: dict[str, Mapping[str, object]] = {}
    for name, group, models in _repositories(request, the_plan, assembled):
        try:
            published = _publish(request, the_plan, assembled, store, name, group, models)
        except LintFailed as failure:
            assembled.rows = [
                _refused(row, failure) if row.target in group else row for row in assembled.rows
            ]
        else:
            repositories[name] = _said(published)
    return tuple(assembled.rows), repositories


def _assemble_all(request: Request, the_plan: Plan, outcome: Outcome, store: Store) -> _Assembled:
    """A row for each model@target and pipeline@target; what is good is remembered by the store."""
    all_of_it = _Assembled()
    for variant in the_plan.all_variants:
        models = all_of_it.good.setdefault(variant.spec.target, {})
        row, made = _assemble(request, variant, the_plan, outcome, store, all_of_it)
        all_of_it.rows.append(row)
        if made:
            models.update({model.name: model for model in made})
            recipes = {step: the_plan.nodes[key].recipe for step, key in variant.steps.items()}
            store.remember(variant.spec.id, recipes)
    return all_of_it


def _assemble(
    request: Request,
    variant: Variant | PipelineVariant,
    the_plan: Plan,
    outcome: Outcome,
    store: Store,
    so_far: _Assembled,
) -> tuple[Row, list[Model]]:
    if isinstance(variant, PipelineVariant):
        target = variant.spec.target
        gated = [
            row.name for row in so_far.rows if (row.target, row.status) == (target, "gate failed")
        ]
        models = so_far.good[target]
        return assemble_pipeline.assemble(variant, the_plan, outcome, models, gated, store)
    row, model = assemble(variant, the_plan, outcome, store, request.keep)
    return row, [model] if model else []


def _repositories(
    request: Request, the_plan: Plan, assembled: _Assembled
) -> Iterator[tuple[str, tuple[str, ...], list[Model]]]:
    """Each repository to publish: its name, the targets that it is for, and its models."""
    devices = _devices(the_plan)
    groups = {**{target: (target,) for target in assembled.good}, **request.multi_target}
    for name, group in groups.items():
        models = _models(name, group, assembled.good, assembled.tried(), devices)
        if models or (request.out / name).is_symlink():  # else nothing good, now or before
            yield name, group, models


def _publish(
    request: Request,
    the_plan: Plan,
    assembled: _Assembled,
    store: Store,
    name: str,
    group: tuple[str, ...],
    models: list[Model],
) -> Published:
    """Publish one repository in one swap; LintFailed where Triton would refuse it."""
    devices = _devices(the_plan)
    tried = assembled.tried()

    def keep(model: str) -> bool:
        return bool(request.only) or any((model, target) in tried for target in group)

    def check(generation: Path) -> None:
        # Imported for a repository that is new: a build with nothing to do needs no rules.
        from repo_builder.repository.lint import refuse

        if (generation / "models").is_dir():
            refuse(generation / "models", devices[group[0]], devices)

    return publish(request.out, name, models, keep, store.fetch, check, request.keep)


def _devices(the_plan: Plan) -> dict[str, Target]:
    return {variant.spec.target: variant.target for variant in the_plan.all_variants}


def _models(
    name: str,
    group: tuple[str, ...],
    good: Mapping[str, Mapping[str, Model]],
    tried: Collection[tuple[str, str]],
    devices: Mapping[str, Target],
) -> list[Model]:
    """What goes into a repository: of several targets only what is good for all that it is for."""
    if group == (name,):
        return list(good[name].values())
    bad = {model for model, target in tried if target in group and model not in good[target]}
    built = {
        target: {
            model.name: model
            for model in good[target].values()
            if str(model.record.get("pipeline", model.name)) not in bad
        }
        for target in group
    }
    return multi_target.merge(built, devices)


def _refused(row: Row, failure: LintFailed) -> Row:
    """The row of a model whose repository was not published."""
    return replace(row, status="failed", reason=row.reason or str(failure))


def _said(published: Published) -> dict[str, object]:
    return {
        "folder": str(published.folder),
        "digest": published.digest,
        "changed": published.changed,
        "models": sorted(published.models),
    }
