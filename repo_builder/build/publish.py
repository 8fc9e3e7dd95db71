"""From an outcome to what readers see: rows of the report, and each target's repository.

`publish_good` is the path: assemble every variant, then publish repository by repository. What
failed keeps its previous good version. How a repository is written belongs to `repository/`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from repo_builder.base import console
from repo_builder.base.errors import RepoBuilderError, StepError
from repo_builder.build import assemble_pipeline
from repo_builder.build.assemble import assemble
from repo_builder.build.report import Row
from repo_builder.build.report.search import Search
from repo_builder.build.request import Request
from repo_builder.plan import PipelineVariant, Plan, Variant
from repo_builder.repository import multi_target, response_cache
from repo_builder.repository.publish import Model, Published, publish
from repo_builder.run.execute import Outcome
from repo_builder.run.store import Store
from repo_builder.targets import Target


def publish_good(
    request: Request,
    plan: Plan,
    outcome: Outcome,
    store: Store,
    searches: Mapping[str, Search],
) -> tuple[tuple[Row, ...], dict[str, Mapping[str, object]]]:
    """Assemble every model@target, publish each target's good models, and say what became of all.

    Returns the rows of the report, and what was published by the name of its repository. `searches`
    are those that decided variants, by id.
    """
    build = _Build(request, plan, outcome, store)
    assembled = _assemble_all(build)
    _hold_under_load(build, assembled)
    published: dict[str, Mapping[str, object]] = {}
    for repository in _repositories(build, assembled):
        try:
            done = _publish_what_triton_takes(build, assembled, repository)
        except RepoBuilderError:
            raise
        except Exception as failure:  # noqa: BLE001 - one repository takes no others down
            bug = str(_bug(build, repository.name, failure))
            assembled.refuse(repository.targets, {row.name: bug for row in assembled.rows})
        else:
            if done:
                published[repository.name] = _as_record(done)
    rows = (replace(row, search=searches.get(row.id)) for row in assembled.rows)
    return tuple(rows), published


@dataclass(frozen=True)
class _Build:
    """What was asked for, and what came of it."""

    request: Request
    plan: Plan
    outcome: Outcome
    store: Store

    @cached_property
    def targets(self) -> dict[str, Target]:
        """The targets that something was planned for, by name."""
        return {variant.spec.target: variant.target for variant in self.plan.all_variants}


@dataclass
class _Assembled:
    """The rows so far, and each target's good models by name."""

    rows: list[Row] = field(default_factory=list)
    good: dict[str, dict[str, Model]] = field(default_factory=dict)

    @property
    def tried(self) -> set[tuple[str, str]]:
        """(model, target) of every row."""
        return {(row.name, row.target) for row in self.rows}

    def names(self, target: str, status: str) -> list[str]:
        """The models of a target whose rows have a status."""
        return [row.name for row in self.rows if (row.target, row.status) == (target, status)]

    def refuse(self, targets: tuple[str, ...], why: Mapping[str, str]) -> None:
        """Say in the rows of `targets` why their models or pipelines are not published."""
        self.rows = [
            replace(row, status="failed", reason=row.reason or why[row.name], folder="")
            if row.target in targets and row.name in why
            else row
            for row in self.rows
        ]
        for target in targets:
            good = self.good.get(target, {})
            self.good[target] = {n: m for n, m in good.items() if _owner(m) not in why}


class _RefusedError(Exception):
    """Triton would refuse models that are about to be published: their names, and why."""

    def __init__(self, why: Mapping[str, str]) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class _Repository:
    """A repository to publish: its name below `out`, the targets that it is for, its models."""

    name: str
    targets: tuple[str, ...]
    models: list[Model]


def _assemble_all(build: _Build) -> _Assembled:
    """A row for each model@target and pipeline@target; what is good is remembered by the store."""
    assembled = _Assembled()
    for variant in build.plan.all_variants:
        good = assembled.good.setdefault(variant.spec.target, {})
        try:
            row, models = _assemble(build, variant, assembled)
        except RepoBuilderError:
            raise
        except Exception as failure:  # noqa: BLE001 - one model takes no others down
            row, models = _row_of_bug(build, variant, failure), []
        assembled.rows.append(row)
        if models:
            good.update({model.name: model for model in models})
            recipes = {step: build.plan.nodes[key].recipe for step, key in variant.steps.items()}
            build.store.remember(variant.spec.id, recipes)
    return assembled


def _assemble(
    build: _Build, variant: Variant | PipelineVariant, so_far: _Assembled
) -> tuple[Row, list[Model]]:
    """The row of a variant and what it has to publish: [] where it is not good."""
    plan, outcome, store = build.plan, build.outcome, build.store
    if isinstance(variant, PipelineVariant):
        good = so_far.good[variant.spec.target]
        gated = so_far.names(variant.spec.target, "gate failed")
        return assemble_pipeline.assemble(variant, plan, outcome, good, gated, store)
    row, model = assemble(variant, plan, outcome, store, build.request.keep)
    return row, [model] if model else []


def _hold_under_load(build: _Build, assembled: _Assembled) -> None:
    """Hold pipelines to the budgets that they keep at a rate; what does not is not published."""
    rows = {row.id: number for number, row in enumerate(assembled.rows)}
    for variant in build.plan.pipelines:
        spec, number = variant.spec, rows[variant.spec.id]
        row, rate = assembled.rows[number], spec.budget_rate
        if rate is None or not row.good or variant.why_not_executed:
            continue
        # Imported where a spec asks for it: other builds start no server.
        from repo_builder.build import gates, under_load

        good = assembled.good[spec.target]
        models = [m for m in good.values() if _owner(m) == spec.name or m.name in spec.models]
        again = build.request.measure_again
        found = under_load.seen(variant, models, rate, build.store, again=again)
        limits = gates.budget_gates(
            spec.latency_budget_ms, found.ms, found.doubt, f" at {rate:g}/s"
        )
        row = replace(row, gates=(*row.gates, *limits))
        if broken := gates.over_budget(limits):
            row = replace(row, status="gate failed", reason=broken, folder="", digest="")
            assembled.good[spec.target] = {n: m for n, m in good.items() if _owner(m) != spec.name}
        assembled.rows[number] = row


def _row_of_bug(build: _Build, variant: Variant | PipelineVariant, failure: Exception) -> Row:
    spec = variant.spec
    optimize = getattr(spec, "optimize", None)
    return Row(
        id=spec.id,
        name=spec.name,
        target=spec.target,
        version=str(spec.version),
        precision=optimize.scheme if optimize else "pipeline",
        status="failed",
        reason=str(_bug(build, spec.id, failure)),
    )


def _bug(build: _Build, name: str, failure: Exception) -> StepError:
    """What to say of an exception that nobody foresaw; its traceback goes to a log."""
    log = build.store.log(name)
    log.write_text("".join(traceback.format_exception(failure)), encoding="utf-8")
    what = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
    return StepError(f"{what}; this is a bug in repo-builder, please report it with {log}")


def _repositories(build: _Build, assembled: _Assembled) -> Iterator[_Repository]:
    """Each target's own repository, and those that several share; none that never had a model."""
    own = {target: (target,) for target in assembled.good}
    for name, targets in {**own, **build.request.multi_target}.items():
        if name in own:
            models = list(assembled.good[name].values())
        else:
            models = _shared_models(build, assembled, targets)
        if models or (build.request.out / name).is_symlink():
            yield _Repository(name, targets, models)


def _shared_models(build: _Build, assembled: _Assembled, targets: tuple[str, ...]) -> list[Model]:
    """What several targets share: only what is good for all that it is built for."""
    bad = {
        name
        for name, target in assembled.tried
        if target in targets and name not in assembled.good[target]
    }
    shared = {
        target: {
            model.name: model
            for model in assembled.good[target].values()
            if str(model.record.get("pipeline", model.name)) not in bad
        }
        for target in targets
    }
    return multi_target.merge(shared, build.targets)


def _publish_what_triton_takes(
    build: _Build, assembled: _Assembled, repository: _Repository
) -> Published | None:
    """Publish a repository less the models that Triton would refuse; None where nothing is left.

    A refused model takes with it the pipelines that use it; their earlier versions stay.
    """
    models = repository.models
    while True:
        if not models and not (build.request.out / repository.name).is_symlink():
            return None
        try:
            return _publish(build, assembled, replace(repository, models=models))
        except _RefusedError as refusal:
            why = _with_pipelines(models, refusal.why)
            assembled.refuse(repository.targets, why)
            models = [model for model in models if _owner(model) not in why]


def _with_pipelines(models: Sequence[Model], why: Mapping[str, str]) -> dict[str, str]:
    """Why models or pipelines are not published, from why Triton would refuse some of the files."""
    found: dict[str, str] = {}
    for model in models:
        uses: Any = model.record.get("uses", {})
        if model.name in why:
            found[_owner(model)] = why[model.name]
        elif lost := [name for name in uses if name in why]:
            found.setdefault(_owner(model), f"not published: {', '.join(lost)}")
    return found


def _owner(model: Model) -> str:
    """Whose row speaks for a model: its own, or that of the pipeline that it is a part of."""
    return str(model.record.get("pipeline", model.name))


def _publish(build: _Build, assembled: _Assembled, repository: _Repository) -> Published:
    """Publish one repository in one swap; _RefusedError where Triton would refuse new models."""
    request, tried = build.request, assembled.tried

    def keep(model: str) -> bool:
        return bool(request.only) or any((model, target) in tried for target in repository.targets)

    def check(generation: Path) -> None:
        # Imported for a repository that is new: a build with nothing to do needs no rules.
        from repo_builder.repository.lint import refusals

        if not (generation / "models").is_dir():
            return
        device = build.targets[repository.targets[0]]
        why = {
            **response_cache.stale(request.out / repository.name, generation),
            **refusals(generation / "models", device, build.targets),
        }
        new = {model.name for model in repository.models}
        for name in why.keys() - new:
            console.warn(f"{repository.name}: the earlier {name} stays, but: {why[name]}")
        if refused := {name: text for name, text in why.items() if name in new}:
            raise _RefusedError(refused)

    return publish(
        request.out,
        repository.name,
        repository.models,
        keep,
        build.store.fetch,
        check,
        request.keep,
    )


def _as_record(published: Published) -> dict[str, object]:
    return {
        "folder": str(published.folder),
        "digest": published.digest,
        "changed": published.changed,
        "models": sorted(published.models),
    }
