"""Builds candidates one after the other until none that is left could win."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from repo_builder.base import console
from repo_builder.base.errors import ModelError
from repo_builder.build.assemble import assemble
from repo_builder.build.prepare import planned, refused, wanted
from repo_builder.build.report.search import Search, Tried
from repo_builder.build.report.types import Row
from repo_builder.build.search import choose, record
from repo_builder.build.search.candidates import Candidate
from repo_builder.build.search.choose import Ratio, Result
from repo_builder.build.search.record import Question
from repo_builder.plan import Plan, Variant
from repo_builder.run.execute import Outcome
from repo_builder.run.store import Store
from repo_builder.spec.search import Auto
from repo_builder.spec.types import Pipeline, Spec
from repo_builder.targets import Target

_SAME: Ratio = (1.0, 1.0, 1.0)
"""Of fp32, beside itself."""

MOST_LOOKS = 3
"""Winners that are held to the rows that chose nothing; each look costs confidence."""

__all__ = ["Run", "Search", "Workshop", "settle"]


Run: TypeAlias = Callable[[Plan, Sequence[str], Mapping[str, ModelError]], Outcome]
"""Makes the entries of some keys of a plan, and of what they need, but for what is refused."""


@dataclass(frozen=True)
class Workshop:
    """What a search builds with."""

    catalog: Mapping[str, Target]
    store: Store
    run: Run


def settle(
    specs: Sequence[Spec | Pipeline], shop: Workshop
) -> tuple[list[Spec | Pipeline], dict[str, Search]]:
    """The specs, each with `auto` replaced by what its search has found, and all searches by id.

    A search that was finished before is recalled; one that was stopped goes on, since what it built
    is in the store.
    """
    found: dict[str, Search] = {}
    decided: list[Spec | Pipeline] = []
    for spec in specs:
        if not isinstance(spec, Spec) or spec.optimize.auto is None:
            decided.append(spec)
            continue
        target = shop.catalog[spec.target]
        question = Question.of(spec, target, shop.catalog, shop.store)
        search = record.recall(question, shop.store)
        if search is None:
            search = _Race(question, spec.optimize.auto, shop).run()
            record.remember(question, search, shop.store)
        found[spec.id] = search
        decided.append(record.settled(question, search))
    return decided, found


class _Race:
    """One search."""

    def __init__(self, question: Question, auto: Auto, shop: Workshop) -> None:
        self.question = question
        self.auto = auto
        self.shop = shop
        self.results: dict[str, Result] = {}
        self.looks = 0
        self.begun = time.monotonic()

    def run(self) -> Search:
        """Try, choose, confirm.

        Where no candidate keeps the gates, the one that loses least wins, so that the build says
        which gate it breaks.
        """
        candidates, objective = self.question.candidates, self.auto.objective
        best: Candidate | None = None
        while True:
            one = None if self._late else choose.following(candidates, self.results, objective)
            if one is not None:
                self.results[one.name] = self._measured(one)
                continue
            best = choose.winner(candidates, self.results, objective)
            if best is None:
                break
            self.looks += 1
            if self.looks > MOST_LOOKS:  # the build itself is the last look, at what is safest
                best = max(candidates, key=lambda safe: safe.expected)
                break
            refuted = self._refuted(best)
            if not refuted:
                break
            self.results[best.name] = replace(self.results[best.name], refuted=refuted)
        complete = choose.following(candidates, self.results, objective) is None
        return self._told(best, complete=complete)

    @property
    def _late(self) -> bool:
        """Whether the time is up; never before the first candidate."""
        return bool(self.results) and time.monotonic() - self.begun > self.auto.budget_s

    def _measured(self, one: Candidate) -> Result:
        place = f"{len(self.results) + 1} of up to {len(self.question.candidates)}"
        console.say(f"{self.question.spec.id}: trying {one.name} ({place})")
        number = self.question.candidates.index(one)
        made = self.question.plan.variants[number]
        row = self._row(replace(self.question.plan, variants=(made,)), made)
        drop = row.score.drop if row.score else None
        return Result(row.size, _faster(row), _less(row), drop, problem=row.reason)

    def _refuted(self, best: Candidate) -> str:
        """What the winner breaks on the rows that chose nothing; "" where it holds."""
        shop = self.shop
        spec = record.variant(self.question.spec, best.optimize, "confirmation", self.looks)
        plan = planned([spec], shop.catalog, shop.store)
        console.say(f"{spec.id}: confirming {best.name} on rows that chose nothing")
        return self._row(plan, plan.variants[0]).reason

    def _row(self, plan: Plan, made: Variant) -> Row:
        """What the report would say of a variant."""
        refusals = refused(plan, self.shop.store)
        keys = wanted(plan, refusals)
        if self.auto.objective == "size" and made.spec.gates.max_latency_ms is None:
            keys = [key for key in keys if key != made.steps.get("profile")]
        outcome = self.shop.run(plan, keys, refusals)
        row, _ = assemble(made, plan, outcome, self.shop.store, 1)
        return row

    def _told(self, best: Candidate | None, *, complete: bool) -> Search:
        candidates, objective = self.question.candidates, self.auto.objective
        chosen = best or self._least_bad()
        tried = tuple(
            Tried(
                one.name,
                result.size,
                result.faster and result.faster[1],
                result.less and result.less[1],
                result.drop,
                choose.why_not(one, self.results, best, objective),
            )
            for one in candidates
            for result in (self.results.get(one.name, Result()),)
        )
        seconds = round(time.monotonic() - self.begun, 1)
        return Search(objective, chosen.name, complete, seconds, self.looks, tried)

    def _least_bad(self) -> Candidate:
        """Of candidates that all break a gate, the one that loses least."""

        def drop(one: Candidate) -> float:
            found = self.results[one.name].drop if one.name in self.results else None
            return float("inf") if found is None else found

        return min(self.question.candidates, key=drop)


def _faster(row: Row) -> Ratio | None:
    """How many times faster than fp32 a row is; fp32 is as fast as itself."""
    if row.latency is None:
        return None
    if row.precision == "fp32":
        return _SAME
    found = row.fp32
    if found is None or found.faster is None:
        return None
    return found.faster_low or found.faster, found.faster, found.faster_high or found.faster


def _less(row: Row) -> Ratio | None:
    """How many times less energy than fp32 a row takes."""
    if row.energy is None:
        return None
    if row.precision == "fp32":
        return _SAME
    if row.energy.less is None:
        return None
    low, middle, high = row.energy.less
    return low, middle, high
