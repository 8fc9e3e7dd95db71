"""Which candidate to try next, which has won, and why each other lost. Pure: it sees figures alone.

Size and speed are those of a kind, so one candidate of each kind tells what there is to win; of
sizes, one that is expected to be several times that of a good candidate is known without trying.
Then candidates of the kinds that would win are tried until one keeps the gates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from repo_builder.build.search.candidates import Candidate
from repo_builder.spec.search import SearchObjective

HOPELESS = 3.0
"""A kind whose expected size is so many times that of a good candidate's kind is not tried."""

SAME_SIZE = 0.02
"""Sizes this close, as a share of the smaller, are the same: names and padding."""


Ratio: TypeAlias = tuple[float, float, float]
"""A lower quartile, a median and an upper one."""


@dataclass(frozen=True)
class Result:
    """What was measured of a candidate on the rows that choose.

    `size` is in bytes. `faster` is how many times faster than fp32 in the same runtime it is, and
    `less` how many times less energy it takes, with quartiles (low, median, high), 1 for fp32.
    `drop` is that of the score. `problem` says which gate it breaks or why it cannot be built, ""
    where it is good; `refuted` which gate it breaks on the rows that chose nothing, "" where it was
    not asked or holds.
    """

    size: int | None = None
    faster: Ratio | None = None
    less: Ratio | None = None
    drop: float | None = None
    problem: str = ""
    refuted: str = ""

    @property
    def good(self) -> bool:
        """Whether it may win."""
        return not self.problem and not self.refuted

    def cost(self, objective: SearchObjective) -> float:
        """What is to be small; infinite where it is not known."""
        if objective == "size":
            return math.inf if self.size is None else float(self.size)
        ratio = self.ratio(objective)
        return math.inf if ratio is None else 1 / ratio[1]

    def ratio(self, objective: SearchObjective) -> Ratio | None:
        """How many times better than fp32 it is by what was measured in turns."""
        return self.less if objective == "energy" else self.faster


Results = Mapping[str, Result]
"""By the candidates' names; of those that were tried."""


def following(
    candidates: Sequence[Candidate], results: Results, objective: SearchObjective
) -> Candidate | None:
    """What to try next; None where nothing that is left could win."""
    untried = [one for one in candidates if one.name not in results]
    seen = {one.kind for one in candidates if one.name in results}
    best = winner(candidates, results, objective)
    most = HOPELESS * best.expected if best and objective == "size" else math.inf
    new = [one for one in untried if one.kind not in seen and one.expected < most]
    if new:
        return min(new, key=lambda one: one.expected)
    limit = math.inf if best is None else results[best.name].cost(objective)
    costs = {kind: _cost_of(kind, candidates, results, objective) for kind in seen}
    left = [
        one
        for one in untried
        if one.kind in seen and costs[one.kind] < limit and (not best or one.kind != best.kind)
    ]
    return min(left, key=lambda one: costs[one.kind], default=None)


def winner(
    candidates: Sequence[Candidate], results: Results, objective: SearchObjective
) -> Candidate | None:
    """The best of those that are good: of equal ones the smaller, then what loses less.

    None where none is good.
    """
    good = [one for one in candidates if one.name in results and results[one.name].good]
    if not good:
        return None
    first = min(good, key=lambda one: results[one.name].cost(objective))
    equal = [one for one in good if _equal(results[one.name], results[first.name], objective)]
    return min(equal, key=lambda one: _order(results[one.name], objective))


def why_not(
    candidate: Candidate, results: Results, best: Candidate | None, objective: SearchObjective
) -> str:
    """Why a candidate did not win, in a few words; "" of the winner."""
    if best is not None and candidate.name == best.name:
        return ""
    result = results.get(candidate.name)
    if result is None:
        return f"not tried: {_no_better(best)}" if best else "not tried: the time was up"
    if result.problem:
        return result.problem
    if result.refuted:
        return f"on rows that chose nothing: {result.refuted}"
    if best is None:
        return ""
    won = results[best.name]
    if _equal(result, won, objective):
        return f"as good as {best.name}, but {_tie(result, won, objective)}"
    ratio = result.cost(objective) / won.cost(objective)
    worse = {"size": "larger", "latency": "slower", "energy": "the energy"}[objective]
    than = "of" if objective == "energy" else "than"
    return f"{ratio:.3g}x {worse} {than} {best.name}" if math.isfinite(ratio) else "not measured"


def _cost_of(
    kind: str, candidates: Sequence[Candidate], results: Results, objective: SearchObjective
) -> float:
    """What candidates of a kind cost: the least figure of those tried, 0 where all failed."""
    known = [
        results[one.name].cost(objective)
        for one in candidates
        if one.kind == kind and one.name in results
    ]
    finite = [cost for cost in known if math.isfinite(cost)]
    return min(finite, default=0.0)


def _equal(one: Result, other: Result, objective: SearchObjective) -> bool:
    """Whether two cost the same as far as can be told."""
    if objective == "size":
        if one.size is None or other.size is None:
            return False
        return abs(one.size - other.size) <= SAME_SIZE * min(one.size, other.size)
    ours, theirs = one.ratio(objective), other.ratio(objective)
    if ours is None or theirs is None:
        return False
    return ours[0] <= theirs[2] and theirs[0] <= ours[2]


def _order(result: Result, objective: SearchObjective) -> tuple[float, float]:
    drop = math.inf if result.drop is None else result.drop
    size = math.inf if result.size is None else float(result.size)
    return (drop, size) if objective == "size" else (size, drop)


def _tie(result: Result, won: Result, objective: SearchObjective) -> str:
    if objective != "size" and result.size != won.size:
        return "larger"
    return "loses more" if _order(result, objective) > _order(won, objective) else "tried later"


def _no_better(best: Candidate) -> str:
    return f"could not beat {best.name}"
