"""The report as one HTML page: a table and bar charts, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_builder import __version__
from repo_builder.base import console, svg, templates
from repo_builder.build.report.types import Confidence, Report, Row

_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
"""Of SVG files; inside HTML it goes without saying, and a page without addresses loads nothing."""

_BATCHES = (
    "rows a second, one by one and in batches; longer is better. Where a batch is no faster, "
    "dynamic_batching: null in the spec's serving spares requests the wait for each other"
)


@dataclass(frozen=True)
class Bar:
    """One bar: `share` is its length as a part (0..1) of the chart's longest."""

    label: str
    text: str
    share: float
    kind: str


@dataclass(frozen=True)
class Chart:
    """A chart of horizontal bars in one unit; `note` says which way is better."""

    title: str
    note: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class TradeOff:
    """Where a model's answers may end, edge or cloud: sentences, and the plot as SVG."""

    id: str
    sentences: tuple[str, ...]
    plot: str


def page(report: Report) -> str:
    """The whole page."""
    template = templates.load("report.html.j2", html=True, last_newline=False)
    charts = [
        _chart("Size", "smaller is better; grey is the source", report, _size, console.megabytes),
        _chart(
            "Score", "on the evaluation data; grey is the source in fp32", report, _score, _plain
        ),
        _chart("Latency", "median of one request, ms; shorter is better", report, _latency, _plain),
        _chart("Throughput", _BATCHES, report, _throughput, _rate),
    ]
    return template.render(
        rows=report.rows,
        compared=[row for row in report.rows if row.comparison is not None],
        budgets=[row for row in report.rows if row.budget is not None],
        charts=[chart for chart in charts if chart.bars],
        trade_offs=[
            TradeOff(row.id, _sentences(row, row.confidence), _plot(row.id, row.confidence))
            for row in report.rows
            if row.confidence
        ],
        version=__version__,
        seconds=console.seconds(report.seconds),
        megabytes=console.megabytes,
    )


def _chart(
    title: str,
    note: str,
    report: Report,
    pick: Callable[[Row], list[tuple[str, float]]],
    show: Callable[[Any], str],
) -> Chart:
    """A chart of what `pick` finds in each row: pairs of kind (source, built) and figure.

    A source that several rows share is drawn once, before them.
    """
    figures: list[tuple[str, str, float]] = []
    for row in report.rows:
        for kind, figure in pick(row):
            label = row.name if kind == "source" else row.id
            if (label, kind, figure) not in figures:
                figures.append((label, kind, figure))
    longest = max((figure for _, _, figure in figures), default=0.0) or 1.0
    return Chart(
        title,
        note,
        tuple(
            Bar(label, show(figure), max(0.0, figure / longest), kind)
            for label, kind, figure in figures
        ),
    )


def _size(row: Row) -> list[tuple[str, float]]:
    return [
        (kind, size)
        for kind, size in (("source", row.source_size), ("built", row.size))
        if size is not None
    ]


def _score(row: Row) -> list[tuple[str, float]]:
    return [("source", row.score.source), ("built", row.score.built)] if row.score else []


def _latency(row: Row) -> list[tuple[str, float]]:
    return [("built", row.latency.p50_ms)] if row.latency else []


def _throughput(row: Row) -> list[tuple[str, float]]:
    return [(f"batch {batch}", rows) for batch, rows in row.rows_per_second.items()]


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plot(name: str, confidence: Confidence) -> str:
    """Error against the share of rows that stay at the edge, with a ring around what is shipped."""
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
    if not drawn:  # right and wrong are not known
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


def _sentences(row: Row, confidence: Confidence) -> tuple[str, ...]:
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
