"""The plots of the page, as SVG: score against size and latency, and edge against cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass

from repo_builder.base import console, scatter, svg
from repo_builder.build.report import view
from repo_builder.build.report.types import Confidence, Row
from repo_builder.build.report.view import Card

_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
"""Of SVG files; inside HTML it goes without saying, and a page without addresses loads nothing."""

_SMALLEST, _LARGEST = 4.0, 13.0
"""Radius in px of the dot of the smallest and the largest model of a plot."""


@dataclass(frozen=True)
class _Point:
    """What a plot may show of a variant, or of its fp32: bytes, milliseconds, the metric."""

    label: str
    name: str
    kind: str
    size: int
    latency: float | None
    score: float | None


def pareto(card: Card) -> tuple[str, ...]:
    """Score by size and score by latency of a model's targets and their fp32.

    Latency by size where there is no score. A plot of less than two different points is left out.
    """
    points = _points(card)
    metric = next((line.row.score.metric for line in card.lines if line.row.score), "")
    rises = view.higher_is_better(card)
    better = "higher" if rises else "lower"
    if metric:
        axes = [
            ("size", f"{metric}, {better} is better", rises),
            ("latency", f"{metric}, {better} is better", rises),
        ]
    else:
        axes = [("latency by size", "size, KB", False)]
    plots = []
    for across, y_label, y_up in axes:
        dots = [dot for point in points if (dot := _dot(point, across, points)) is not None]
        if len({(dot.x, dot.y) for dot in dots}) > 1:
            x_label = "size, KB" if across == "size" else "latency of one request, ms"
            y_name = metric or "size"
            title = f"{card.name}: {y_name} by {'size' if across == 'size' else 'latency'}"
            plots.append(scatter.scatter(title, x_label, y_label, dots, y_up=y_up))
    return tuple(plots)


def _points(card: Card) -> list[_Point]:
    found: dict[object, _Point] = {}
    for line in card.lines:
        row = line.row
        if row.size is None:
            continue
        timed = row.latency.p50_ms if row.latency else None
        score = row.score.built if row.score else None
        name = f"{row.target}, {row.precision}"
        kind = "built" if row.good else "refused"
        found[row.id] = _Point(str(line.number), name, kind, row.size, timed, score)
        if row.fp32:
            beside = row.fp32
            key = (beside.size, beside.latency_ms, beside.score)
            name = f"fp32 {'in ' + beside.runtime if beside.runtime else 'source'}"
            found.setdefault(
                key, _Point("fp32", name, "fp32", beside.size, beside.latency_ms, beside.score)
            )
    return list(found.values())


def _dot(point: _Point, across: str, points: list[_Point]) -> scatter.Dot | None:
    x = point.size / 1e3 if across == "size" else point.latency
    y = point.size / 1e3 if across == "latency by size" else point.score
    if x is None or y is None:
        return None
    largest = max(one.size for one in points)
    radius = max(_SMALLEST, _LARGEST * math.sqrt(point.size / largest)) if largest else _SMALLEST
    about = [point.name, console.megabytes(point.size)]
    if point.latency is not None:
        about.append(view.ms(point.latency))
    if point.score is not None:
        about.append(f"{point.score:.4f}")
    return scatter.Dot(x, y, point.label, ", ".join(about), radius, point.kind)


def trade_off(name: str, confidence: Confidence) -> str:
    """Error against the share of rows that stay at the edge, with a ring around what is shipped.

    "" where right and wrong are not known.
    """
    points, chosen = confidence.frontier, confidence.chosen
    series = {
        "sure answers": [(p.coverage, p.edge_error) for p in points if p.edge_error is not None],
        "all, with the cloud": [
            (p.coverage, p.total_error) for p in points if p.total_error is not None
        ],
    }
    if confidence.max_error is not None:
        ends = (points[-1].coverage, points[0].coverage)
        series["promised"] = [(end, confidence.max_error) for end in ends]
    drawn = {label: line for label, line in series.items() if line}
    if not drawn:
        return ""
    marks = []
    if chosen:
        errors = (chosen.edge_error, chosen.total_error)
        marks = [(chosen.coverage, error) for error in errors if error is not None]
    whole, none = points[0], points[-1]  # all rows at the edge, and none

    def tick(coverage: float) -> str:
        cost = none.cost + coverage * (whole.cost - none.cost)
        if whole.latency_ms is None or none.latency_ms is None:
            return f"{coverage:.0%}, {cost:.2g}"
        latency = none.latency_ms + coverage * (whole.latency_ms - none.latency_ms)
        return f"{coverage:.0%}, {latency:.3g} ms, {cost:.2g}"

    text = svg.line_chart(
        f"{name}: error by coverage",
        "rows that stay, and what a row takes and costs on average",
        "error",
        drawn,
        x_ticks=[*((i / 5, tick(i / 5)) for i in range(5)), (1.0, "100%")],
        marks=marks,
    )
    return text.replace(_NAMESPACE, "", 1)


def sentences(row: Row, confidence: Confidence) -> tuple[str, ...]:
    """The chosen point in sentences."""
    c, chosen = confidence, confidence.chosen
    cloud = c.cloud or row.name
    sentences = []
    if chosen is None:
        sentences.append(f"Never sure: every row goes to {cloud}. {c.warning}.")
    else:
        sentences.append(
            f"Sure where {c.policy} of {c.output} is at least {chosen.threshold:.4g}: "
            f"{chosen.coverage:.1%} of the rows stay, the others go to {cloud}."
        )
        if c.max_error is not None:
            sentences.append(
                f"Promised: of the sure answers at most {c.max_error:.2%} are wrong, with "
                f"{c.confidence_level:.0%} confidence, while the data stay like the samples."
            )
        if c.errors is not None and c.bound is not None:
            sentences.append(
                f"Seen: {c.errors} wrong of {c.kept} sure, an error of at most {c.bound:.2%} with "
                f"{c.confidence_level:.0%} confidence."
            )
        if chosen.total_error is not None:
            sentences.append(f"With the cloud's answers {chosen.total_error:.2%} of all are wrong.")
        if chosen.latency_ms is not None:
            sentences.append(f"A row takes {chosen.latency_ms:.3g} ms on average.")
        sentences.append(f"A row costs {chosen.cost:.3g} on average.")
    where = f"run in {c.runtime}" + ("" if row.level == "executed" else ", not on the device")
    if c.tuned:
        sentences.append(
            f"Temperature {c.temperature:.3g} fitted to {c.tuned} rows, the threshold tested on "
            f"{c.tested} others, {where}."
        )
    else:
        sentences.append(f"Seen on {c.tested} rows, {where}.")
    return tuple(sentences)
