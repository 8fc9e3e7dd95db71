"""The one path: spec files -> plan -> store -> repositories -> report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from repo_builder import assemble_pipeline, report, steps, targets
from repo_builder.assemble import assemble
from repo_builder.cluster import ClusterExecutor
from repo_builder.errors import LintFailed, UsageError
from repo_builder.execute import Outcome, Progress, execute, survey
from repo_builder.pin import pin
from repo_builder.plan import Declaration, PipelineVariant, Plan, plan, why
from repo_builder.processes import StepProcesses
from repo_builder.report.types import Report, Row
from repo_builder.repository import together
from repo_builder.repository.publish import Model, Published, publish
from repo_builder.spec.load import load, select
from repo_builder.store import Damaged, Store
from repo_builder.targets import Target

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What to build, from what, and where to."""

    specs: tuple[Path, ...]
    out: Path
    store: Path
    only: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    targets_dir: Path | None = None
    jobs: int = 1
    keep_going: bool = True
    keep: int = 1
    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scheduler: str = ""


def build(request: Request, progress: Progress) -> Report:
    """Build what `request` names, publish what is good, and report on all of it.

    Raises SpecError before anything runs; what fails later is a row of the report.
    """
    begun = time.monotonic()
    store = Store(request.store)
    with store.in_use():
        the_plan, declarations = prepare(request, store)
        progress.planned(the_plan)
        with _executor(request, store) as (executor, jobs):

            def build_and_publish() -> tuple[tuple[Row, ...], dict[str, Mapping[str, object]]]:
                outcome = execute(
                    the_plan,
                    _wanted(the_plan),
                    store,
                    executor,
                    declarations,
                    progress,
                    jobs=jobs,
                    keep_going=request.keep_going,
                )
                return _publish(request, the_plan, outcome, store)

            rows, repositories = _undamaged(store, build_and_publish)
        result = Report(rows, repositories, round(time.monotonic() - begun, 3))
    report.write(result, request.out)
    return result


def _undamaged(store: Store, make: Callable[[], T]) -> T:
    """What `make` gives; what it finds damaged is dropped from the store and made again."""
    dropped: set[str] = set()
    while True:
        try:
            return make()
        except Damaged as damaged:
            if damaged.key in dropped:
                raise
            dropped.add(damaged.key)
            store.drop(damaged.key)


@contextlib.contextmanager
def _executor(request: Request, store: Store) -> Iterator[tuple[Executor, int]]:
    """Where steps run, and how many at a time: processes here, or a cluster's workers."""
    if request.scheduler:
        with ClusterExecutor(request.scheduler, store) as cluster:
            yield cluster, cluster.slots
    else:
        with StepProcesses(request.jobs) as processes:
            yield processes, request.jobs


def prepare(request: Request, store: Store) -> tuple[Plan, dict[str, Declaration]]:
    """The plan for a request, and the declarations it was made with."""
    catalog = targets.load(request.targets_dir)
    for name in request.targets:
        targets.pick(catalog, name)
    specs = select(load(request.specs, catalog), request.only, request.targets)
    for name, group in request.together.items():
        for target in group:
            if target not in {spec.target for spec in specs}:
                raise UsageError(f"--together {name}: no spec is built for {target} here")
        together.check(name, group, catalog)
    declarations = steps.declarations()
    return plan(specs, catalog, declarations, pin(specs, declarations, store)), declarations


@dataclass(frozen=True)
class Line:
    """One step of one model@target as `plan` shows it."""

    id: str
    step: str
    key: str
    cached: bool
    why: str

    def as_json(self) -> dict[str, object]:
        """The line as plain JSON types."""
        return asdict(self)


def preview(request: Request) -> list[Line]:
    """What a build would run, and why; runs nothing."""
    store = Store(request.store)
    with store.in_use():
        the_plan, _ = prepare(request, store)
        _, lacking = survey(the_plan, _wanted(the_plan), store)
        lines = []
        for variant in the_plan.everything:
            last = store.recall(variant.spec.id)
            step_of = {key: step for step, key in variant.steps.items()}
            for step, key in variant.steps.items():
                cached = key not in lacking
                reason = "" if cached else why(the_plan.nodes[key], last.get(step), step_of)
                if not cached and not reason:
                    reason = "no longer in the store"
                lines.append(Line(variant.spec.id, step, key, cached, reason))
    return lines


def _wanted(the_plan: Plan) -> list[str]:
    """The keys whose results a build reads; what they need follows from the plan."""
    models = [
        key
        for variant in the_plan.variants
        for step, key in variant.steps.items()
        if step in _READ or step == variant.compiled
    ]
    pipelines = [
        key
        for pipeline in the_plan.pipelines
        for key in (*pipeline.made.values(), pipeline.steps[pipeline.run])
    ]
    return models + pipelines


_READ = ("import", "verify", "calibrate-confidence", "profile")


def _publish(
    request: Request, the_plan: Plan, outcome: Outcome, store: Store
) -> tuple[tuple[Row, ...], dict[str, Mapping[str, object]]]:
    """Publish each target's good models; what failed keeps its previous good version."""
    rows: list[Row] = []
    good: dict[str, dict[str, Model]] = {}
    for variant in the_plan.everything:
        models = good.setdefault(variant.spec.target, {})
        if isinstance(variant, PipelineVariant):
            target = variant.spec.target
            gated = [r.name for r in rows if (r.target, r.status) == (target, "gate failed")]
            row, made = assemble_pipeline.assemble(variant, the_plan, outcome, models, gated, store)
        else:
            row, model = assemble(variant, the_plan, outcome, store, request.keep)
            made = [model] if model else []
        rows.append(row)
        if made:
            models.update({model.name: model for model in made})
            recipes = {step: the_plan.nodes[key].recipe for step, key in variant.steps.items()}
            store.remember(variant.spec.id, recipes)
    devices = {variant.spec.target: variant.target for variant in the_plan.everything}
    tried = {(row.name, row.target) for row in rows}
    repositories: dict[str, Mapping[str, object]] = {}
    groups = {**{target: (target,) for target in good}, **request.together}
    for name, group in groups.items():
        wanted = _models(name, group, good, tried, devices)
        if not wanted and not (request.out / name).is_symlink():
            continue  # nothing good, now or before

        def keep(model: str, group: tuple[str, ...] = group) -> bool:
            return bool(request.only) or any((model, target) in tried for target in group)

        def check(generation: Path, target: str = group[0]) -> None:
            # Imported for a repository that is new: a build with nothing to do needs no rules.
            from repo_builder.repository.lint import refuse

            if (generation / "models").is_dir():
                refuse(generation / "models", devices[target], devices)

        try:
            published = publish(request.out, name, wanted, keep, store.fetch, check, request.keep)
        except LintFailed as failure:
            rows = [_refused(row, failure) if row.target in group else row for row in rows]
            continue
        repositories[name] = _said(published)
    return tuple(rows), repositories


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
    return together.join(built, devices)


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
