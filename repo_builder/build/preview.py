"""What a build would run, and why; runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from repo_builder.build.prepare import planned, read, refused, wanted
from repo_builder.build.request import Request
from repo_builder.build.search import Question, recall, settled
from repo_builder.plan import Variant, why
from repo_builder.run.execute import cached_and_missing
from repo_builder.run.store import Store
from repo_builder.spec.load import Specs
from repo_builder.spec.types import Spec
from repo_builder.targets import Target


@dataclass(frozen=True)
class Line:
    """One step of one model@target as `plan` shows it; what is `refused` never runs."""

    id: str
    step: str
    key: str
    cached: bool
    why: str
    refused: bool = False

    def as_json(self) -> dict[str, object]:
        """The line as plain JSON types."""
        return asdict(self)


def preview(request: Request) -> list[Line]:
    """What a build would run, and why; runs nothing."""
    store = Store(request.store)
    with store.in_use():
        specs, catalog = read(request)
        specs, lines = _settled(specs, catalog, store)
        the_plan = planned(specs, catalog, store)
        refusals = refused(the_plan, store)
        _, missing = cached_and_missing(the_plan, wanted(the_plan, refusals), store)
        for variant in the_plan.all_variants:
            if isinstance(variant, Variant) and (no := refusals.get(variant.compiled_key)):
                said = "; ".join(map(str, no.problems)) or no.message
                lines.append(
                    Line(variant.spec.id, variant.compiled, variant.compiled_key, False, said, True)
                )
                continue
            last = store.recall(variant.spec.id)
            step_of = {key: step for step, key in variant.steps.items()}
            for step, key in variant.steps.items():
                cached = key not in missing
                reason = "" if cached else why(the_plan.nodes[key], last.get(step), step_of)
                if not cached and not reason:
                    reason = "no longer in the store"
                lines.append(Line(variant.spec.id, step, key, cached, reason))
    return lines


def _settled(specs: Specs, catalog: Mapping[str, Target], store: Store) -> tuple[Specs, list[Line]]:
    """The specs that need no search, or whose search is over; and a line for each other one."""
    decided: Specs = []
    lines = []
    for spec in specs:
        if not isinstance(spec, Spec) or spec.optimize.auto is None:
            decided.append(spec)
            continue
        question = Question.of(spec, catalog[spec.target], catalog, store)
        found = recall(question, store)
        if found is not None:
            decided.append(settled(question, found))
            continue
        auto, count = spec.optimize.auto, len(question.candidates)
        said = f"tries up to {count} variants for the least {auto.objective}, {auto.budget_s:g} s"
        lines.append(Line(spec.id, "search", question.key, False, said))
    return decided, lines
