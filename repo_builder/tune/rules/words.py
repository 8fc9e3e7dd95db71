"""What a recommendation rests on, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from repo_builder.base.histogram import Histogram
from repo_builder.spec.candidate import Candidate
from repo_builder.tune.rules.types import Objective, Observation, Recommendation

MOST_LATE = 0.01
"""The share of requests that the client may begin late before it is the limit itself."""


def evidence(
    found: Recommendation,
    objective: Objective,
    seen: Sequence[Observation],
    dropped: Mapping[Candidate, str],
    candidates: int,
) -> tuple[str, ...]:
    """A line for each thing that `found` rests on."""
    return tuple(_lines(found, objective, seen, dropped, candidates))


def _lines(
    found: Recommendation,
    objective: Objective,
    seen: Sequence[Observation],
    dropped: Mapping[Candidate, str],
    candidates: int,
) -> Iterator[str]:
    tried = {one.candidate for one in seen}
    said = (
        f"{len(tried)} of {candidates} ways measured, {len(seen)} looks, {found.measured_s:.0f} s"
    )
    yield f"{said}; all of them, one after the other, would take about {found.sweep_s:.0f} s"
    yield from _outcome(found)
    if found.candidate and objective.slo:
        yield from _kept(found.candidate, objective, seen)
    if found.equal:
        yield "as good, as far as can be told: " + ", ".join(one.label for one in found.equal)
    for one, why in dropped.items():
        yield f"{one.label} cannot be served: {why}"
    if doubted := [one.doubt for one in seen if one.doubt]:
        yield f"{len(doubted)} looks in doubt, which count for little: {doubted[-1]}"
    late = [one for one in seen if one.rate and one.sent and one.late > MOST_LATE * one.sent]
    if late:
        lowest = min(one.rate for one in late if one.rate)
        yield f"from {lowest:.4g} requests/s on the client is late itself: it is the limit"
    if failed := sum(one.failed for one in seen):
        yield f"{failed} of {sum(one.sent for one in seen)} requests failed"


def _outcome(found: Recommendation) -> Iterator[str]:
    if found.margin and found.current:
        low, middle, high = found.margin
        said = f"{middle:.3g}x ({low:.3g} to {high:.3g}, {found.confidence:.0%}) as good as"
        yield f"in turns {said} the current one, {found.current.label}"
    elif found.outcome == "no difference" and found.current:
        yield f"nothing is expected to be better than the current one, {found.current.label}"
    if not found.complete:
        yield "the time was up before it was decided; more --seconds may tell more"


def _kept(one: Candidate, objective: Objective, seen: Sequence[Observation]) -> Iterator[str]:
    """At which rates the SLO was kept, and at which it was not."""
    slo = objective.slo
    if slo is None:
        return
    own: dict[float, list[Histogram]] = {}
    for observation in seen:
        if observation.candidate == one and observation.rate is not None:
            own.setdefault(observation.rate, []).append(observation.latencies)
    share = f"p{slo.quantile * 100:.6g}"
    reached = {rate: Histogram().merged(*all_).quantile(slo.quantile) for rate, all_ in own.items()}
    kept = {rate: at for rate, at in reached.items() if at * 1e3 <= slo.limit_ms}
    broken = {rate: at for rate, at in reached.items() if rate not in kept}
    if kept:
        rate = max(kept)
        yield f"{share} {kept[rate] * 1e3:.3g} ms at {rate:.4g} requests/s: {slo} is kept"
    if broken:
        rate = min(broken)
        yield f"{share} {broken[rate] * 1e3:.3g} ms at {rate:.4g} requests/s: {slo} is not kept"
