"""From a request to its plan, and which results of the plan a build reads."""

from __future__ import annotations

from repo_builder import steps, targets
from repo_builder.base.errors import UsageError
from repo_builder.build.request import Request
from repo_builder.plan import Declaration, Plan, plan
from repo_builder.repository import multi_target
from repo_builder.run.pin import pin
from repo_builder.run.store import Store
from repo_builder.spec.load import load, select


def prepare(request: Request, store: Store) -> tuple[Plan, dict[str, Declaration]]:
    """The plan for a request, and the declarations it was made with."""
    catalog = targets.load(request.targets_dir)
    for name in request.targets:
        targets.pick(catalog, name)
    specs = select(load(request.specs, catalog), request.only, request.targets)
    for name, group in request.multi_target.items():
        for target in group:
            if target not in {spec.target for spec in specs}:
                raise UsageError(f"--together {name}: no spec is built for {target} here")
        multi_target.check(name, group, catalog)
    declarations = steps.declarations()
    return plan(specs, catalog, declarations, pin(specs, declarations, store)), declarations


def wanted(the_plan: Plan) -> list[str]:
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
        for key in (*pipeline.stage_keys.values(), pipeline.steps[pipeline.run])
    ]
    return models + pipelines


_READ = ("import", "verify", "calibrate-confidence", "profile")
