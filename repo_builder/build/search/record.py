"""What a search found, kept in the store under all that shaped it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from repo_builder.base import digest
from repo_builder.base.digest import Json
from repo_builder.build.prepare import planned
from repo_builder.build.report.search import Search, search_of
from repo_builder.build.search import candidates
from repo_builder.build.search.candidates import Candidate
from repo_builder.plan import Plan
from repo_builder.run.store import Store
from repo_builder.spec.types import Optimize, Part, Spec
from repo_builder.targets import Target

_FORMAT = 1


@dataclass(frozen=True)
class Question:
    """A search as it is asked: the spec, what may be tried, and the plan of all of it.

    `key` names the answer: by the spec's files, its gates, the candidates, and the tools that build
    them. The variants of `plan` are those of `candidates`, in their order.
    """

    spec: Spec
    candidates: tuple[Candidate, ...]
    plan: Plan
    key: str

    @classmethod
    def of(
        cls,
        spec: Spec,
        target: Target,
        catalog: Mapping[str, Target],
        store: Store,
    ) -> Question:
        """The question that a spec with `optimize.auto` asks."""
        listed = candidates.of(spec, target)
        specs = [variant(spec, one.optimize, "selection") for one in listed]
        plan = planned(list(specs), catalog, store)
        auto = spec.optimize.auto
        asked: list[Json] = [
            _FORMAT,
            repr(auto),
            repr(spec.gates),
            [one.name for one in listed],
            [made.steps["verify"] for made in plan.variants],
        ]
        return cls(spec, listed, plan, digest.of_json(asked))


def variant(spec: Spec, optimize: Optimize, part: Part, looks: int = 0) -> Spec:
    """The spec with a candidate's way to build it, judged on a part of the evaluation's rows.

    Where a part chooses, the score that was seen is held to its gate, not the end of its interval,
    and no threshold is sought. What was looked at several times is held to more confidence each
    time, so that all looks together keep what was asked for (Bonferroni's correction).
    """
    evaluation = spec.evaluation and replace(spec.evaluation, part=part)
    gates, fallback = spec.gates, spec.fallback
    if part == "selection":
        gates, fallback = replace(gates, confidence=None), None
    elif gates.confidence is not None:
        gates = replace(gates, confidence=1 - (1 - gates.confidence) / looks)
    return replace(spec, optimize=optimize, evaluation=evaluation, gates=gates, fallback=fallback)


def recall(question: Question, store: Store) -> Search | None:
    """What was found before; None where this was never asked."""
    known = store.read_json(_path(question, store))
    return None if known is None else search_of(known)


def remember(question: Question, found: Search, store: Store) -> None:
    """Keep what was found."""
    store.write_json(_path(question, store), found.as_json())


def settled(question: Question, found: Search) -> Spec:
    """The spec as the search has decided it."""
    ways = {one.name: one.optimize for one in question.candidates}
    return variant(question.spec, ways[found.winner], "confirmation", max(found.looks, 1))


def _path(question: Question, store: Store) -> Path:
    return store.root / "searches" / f"{question.key}.json"
