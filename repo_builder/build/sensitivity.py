"""What int8 costs in each layer of the models of spec files: ranked, nothing is built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repo_builder import steps
from repo_builder.base.errors import RepoBuilderError, UsageError
from repo_builder.build.prepare import read
from repo_builder.build.request import Request
from repo_builder.plan import rankings
from repo_builder.run.execute import Progress, execute
from repo_builder.run.pin import pin
from repo_builder.run.processes import StepProcesses
from repo_builder.run.store import Store
from repo_builder.spec.types import Spec
from repo_builder.targets import support


@dataclass(frozen=True)
class Ranking:
    """One model@target: the facts of the step `sensitivity`, or why there are none.

    `precision` is what the spec builds it in; `mixed`: it asks for mixed precision.
    """

    id: str
    precision: str
    mixed: bool
    facts: Mapping[str, Any] | None
    error: RepoBuilderError | None = None

    def as_json(self) -> dict[str, object]:
        """The ranking as plain JSON types."""
        failed = {"error": str(self.error)} if self.error else {}
        return {"id": self.id, **(self.facts or {}), **failed}


def rank(request: Request, progress: Progress) -> list[Ranking]:
    """Rank the layers of what `request` names, on its calibration data; kept in the store.

    UsageError: no target among them has floating point. SpecError as of a build. What fails later
    is in its ranking.
    """
    found, catalog = read(request)
    models = [spec for spec in found if isinstance(spec, Spec)]
    specs = [spec for spec in models if support.of(catalog[spec.target].runtime).mixed]
    if not specs:
        named = ", ".join(dict.fromkeys(spec.target for spec in models)) or "a pipeline"
        raise UsageError(
            f"nothing to rank: {named} leaves no layer in floating point; name another target"
        )
    declarations = steps.declarations()
    store = Store(request.store)
    with store.in_use():
        plan = rankings(specs, catalog, declarations, pin(specs, declarations, store))
        progress.planned(plan)
        with StepProcesses(request.jobs) as executor:
            outcome = execute(
                plan,
                [variant.compiled_key for variant in plan.variants],
                store,
                executor,
                declarations,
                progress,
                jobs=request.jobs,
            )
    made = []
    for variant in plan.variants:
        entry = outcome.entries.get(variant.compiled_key)
        errors = (outcome.errors.get(key) for key in variant.steps.values())
        optimize = variant.spec.optimize
        made.append(
            Ranking(
                variant.spec.id,
                optimize.precision,
                optimize.quantization.max_error is not None,
                entry.facts if entry else None,
                None if entry else next(filter(None, errors), None),
            )
        )
    return made
