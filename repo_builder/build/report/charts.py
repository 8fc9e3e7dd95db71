"""How every variant differs from its fp32: bars that start at "no difference"."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from repo_builder.build.report import view
from repo_builder.build.report.types import Report, Row
from repo_builder.spec.metrics import IN_POINTS


@dataclass(frozen=True)
class Bar:
    """One bar from the chart's zero: `left`, `width`, whiskers and `limit` in % of the chart.

    `kind` is `better`, `worse` or `same`; `limit` is where a gate stands, None without one.
    """

    model: str
    targets: str
    text: str
    left: float
    width: float
    kind: str
    whisker: tuple[float, float] | None
    limit: float | None


@dataclass(frozen=True)
class Chart:
    """A chart of bars; `ticks` are places in % with their texts, `note` says how to read it."""

    title: str
    note: str
    ticks: tuple[tuple[float, str], ...]
    zero: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class _Figure:
    """A value of one row or of several of a model, which are alike; better above 0."""

    model: str
    targets: tuple[str, ...]
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    limit: float | None = None


def of(report: Report) -> tuple[Chart, ...]:
    """The charts that there are figures for."""
    rows = report.rows
    sizes = (_ratio(row, row.fp32.smaller, "smaller", "larger") for row in rows if row.fp32)
    speeds = (_speed(row) for row in rows)
    charts = [
        _chart("Size", "against fp32 for the same runtime, each step doubles", sizes, _times),
        _chart(
            "Speed",
            "against fp32 in the same runtime, timed in turns, each step doubles; the thin line is "
            "the middle half of all pairs, ? a busy machine",
            speeds,
            _times,
        ),
    ]
    units = dict.fromkeys(_unit(row) for row in rows if row.score and row.fp32)
    for unit in units:
        scores = (_score(row) for row in rows if _unit(row) == unit and row.fp32)
        note = f"in {unit}, against the source in fp32, as gates judge it: the upright lines"
        charts.append(_chart("Score", note, scores, _signed))
    return tuple(chart for chart in charts if chart is not None)


def _ratio(row: Row, ratio: float, more: str, less: str) -> _Figure:
    text = view.times(ratio, more, less)
    return _Figure(row.name, (row.target,), math.log2(max(ratio, 1e-9)), text)


def _speed(row: Row) -> _Figure | None:
    fp32 = row.fp32
    if fp32 is None or not fp32.faster:
        return None
    figure = _ratio(row, fp32.faster, "faster", "slower")
    if row.latency and row.latency.doubt:
        figure = replace(figure, text=f"{figure.text} ?")
    if not fp32.faster_low or not fp32.faster_high:
        return figure
    return replace(figure, low=math.log2(fp32.faster_low), high=math.log2(fp32.faster_high))


def _unit(row: Row) -> str:
    if row.score is None:
        return ""
    return "points" if row.score.metric in IN_POINTS else row.score.metric


def _score(row: Row) -> _Figure | None:
    score = row.score
    if score is None:
        return None
    scale = 100.0 if score.metric in IN_POINTS else 1.0
    text = view.change(score.metric, score.built - score.source)
    limits = [gate.limit for gate in row.gates if gate.name == "max_accuracy_drop"]
    limit = -limits[0] * scale if limits else None
    return _Figure(row.name, (row.target,), -score.drop * scale, text, limit=limit)


def _chart(
    title: str,
    note: str,
    figures: Iterable[_Figure | None],
    tick: Callable[[float], str],
) -> Chart | None:
    """None without figures, or where none differs from 0."""
    merged = _merged([f for f in figures if f is not None and math.isfinite(f.value)])
    if not any(figure.value for figure in merged):
        return None
    ends = [0.0]
    for figure in merged:
        shown = (figure.value, figure.low, figure.high, figure.limit)
        ends += [value for value in shown if value is not None and math.isfinite(value)]
    low, high, step = _scale(min(ends), max(ends), whole=tick is _times)

    def at(value: float) -> float:
        return round((value - low) / (high - low) * 100, 2)

    steps = range(round(low / step), round(high / step) + 1)
    bars = []
    for figure in merged:
        start, end = sorted((at(0.0), at(figure.value)))
        whisker = None
        if figure.low is not None and figure.high is not None:
            whisker = (at(figure.low), round(at(figure.high) - at(figure.low), 2))
        kind = "same" if figure.text == "same" else "better" if figure.value > 0 else "worse"
        bars.append(
            Bar(
                figure.model,
                _listed(figure.targets),
                figure.text,
                start,
                round(end - start, 2),
                kind,
                whisker,
                None if figure.limit is None else at(figure.limit),
            )
        )
    ticks = tuple((at(i * step), tick(i * step)) for i in steps)
    return Chart(title, note, ticks, at(0.0), tuple(bars))


def _merged(figures: Sequence[_Figure]) -> list[_Figure]:
    """One figure for the targets of a model that say the same; not where time was measured."""
    merged: dict[object, _Figure] = {}
    for figure in figures:
        timed = figure.targets if figure.low is not None else ()
        key = (figure.model, figure.text, figure.limit, timed)
        earlier = merged.get(key)
        merged[key] = (
            replace(earlier, targets=(*earlier.targets, *figure.targets)) if earlier else figure
        )
    return list(merged.values())


def _listed(targets: Sequence[str]) -> str:
    """At most two targets by name."""
    more = f" +{len(targets) - 2}" if targets[2:] else ""
    return ", ".join(targets[:2]) + more


def _scale(low: float, high: float, *, whole: bool) -> tuple[float, float, float]:
    """Round ends around `low` <= 0 <= `high`, and the step between ticks; `whole`: 1 or more."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999999)
    step = max(1.0, math.ceil(step)) if whole else step
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


def _signed(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _times(power: float) -> str:
    """A power of two as a ratio: "4x", "1/2x"."""
    if power >= 0:
        return f"{2**power:.0f}x"
    return f"1/{2**-power:.0f}x"
