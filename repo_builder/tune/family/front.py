"""Built members beside each other: score against time, and which no other beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from repo_builder.base.scatter import Dot, best, scatter, standalone
from repo_builder.build.report import Report
from repo_builder.tune.family.afford import Afforded
from repo_builder.tune.family.members import Member


@dataclass(frozen=True)
class Built:
    """A member after its build: score and size as published, ms of one inference.

    `sizes` are the values that the family sets. `measured` False: the time is the roofline's
    estimate, since the device is not this machine.
    `front`: no other member is faster and scores as well. None where it was not built, with why.
    """

    name: str
    sizes: str
    target: str
    score: float | None
    latency_ms: float | None
    measured: bool
    size: int | None
    front: bool = False
    why: str = ""


def built(report: Report, afforded: Mapping[str, Afforded]) -> tuple[Built, ...]:
    """The rows of a build of members, in the order of `afforded`, their estimates by name."""
    found = []
    order = list(afforded)
    for row in sorted(report.rows, key=lambda row: order.index(row.name)):
        estimate = afforded[row.name]
        time = row.latency.p50_ms if row.latency else estimate.latency_ms
        score = row.score.built if row.score else None
        measured, why = row.latency is not None, "" if row.good else row.reason
        sizes = "·".join(str(value) for value in estimate.weighed.member.changed.values())
        one = Built(row.name, sizes, row.target, score, time, measured, row.size, why=why)
        found.append(one)
    front = {dot.about for dot in best(_dots(found), y_up=True)}
    return tuple(
        replace(one, front=any(dot.about in front for dot in _dots([one]))) for one in found
    )


def _dots(members: Sequence[Built]) -> list[Dot]:
    return [
        Dot(b.latency_ms, b.score, b.sizes, f"{b.name}: {b.score:.4f} in {b.latency_ms:.3g} ms")
        for b in members
        if b.latency_ms is not None and b.score is not None and not b.why
    ]


def advice(members: Sequence[Built], tried: Sequence[Member]) -> str:
    """Which growths scored best, and by how much; "" where nothing was scored."""
    growths = {member.name: member.growths for member in tried}
    scored = sorted((b for b in members if b.score is not None), key=lambda b: -(b.score or 0))
    if not scored or growths.get(scored[0].name) is None:
        return ""
    alpha, beta, gamma = growths[scored[0].name] or (1, 1, 1)
    text = f"best: alpha: {alpha}, beta: {beta}, gamma: {gamma}, a score of {scored[0].score:.4f}"
    if len(scored) > 1:
        ahead = ((scored[0].score or 0) - (scored[1].score or 0)) * 100
        text += f"; {ahead:.2f} points more than {scored[1].name}"
    return text


def drawn(members: Sequence[Built], title: str) -> str:
    """The front as SVG."""
    measured = all(b.measured for b in members)
    axis = "ms of one inference" + ("" if measured else ", estimated")
    return standalone(scatter(title, axis, "score", _dots(members), y_up=True))
