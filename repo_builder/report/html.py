"""The report as one HTML page: a table and bar charts, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_builder import __version__, console, resources
from repo_builder.report.types import Report, Row


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


def page(report: Report) -> str:
    """The whole page."""
    import jinja2

    loader = jinja2.FileSystemLoader(resources.folder("templates"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    charts = [
        _chart("Size", "smaller is better; grey is the source", report, _size, console.megabytes),
        _chart(
            "Score", "on the evaluation data; grey is the source in fp32", report, _score, _plain
        ),
        _chart("Latency", "median of one request, ms; shorter is better", report, _latency, _plain),
    ]
    return template.render(
        rows=report.rows,
        charts=[chart for chart in charts if chart.bars],
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


def _plain(value: float) -> str:
    return f"{value:.4g}"
