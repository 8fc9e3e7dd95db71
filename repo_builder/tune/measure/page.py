"""A run as one HTML page, in the look of the build's report: nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repo_builder.base import scatter, templates
from repo_builder.tune.measure import show
from repo_builder.tune.measure.compare import Comparison
from repo_builder.tune.measure.types import Cell, Measured


@dataclass(frozen=True)
class Bar:
    """A bar and the whisker on it, in % of the longest; `plain` marks fp32."""

    label: str
    text: str
    width: float
    whisker: tuple[float, float] | None
    plain: bool


@dataclass(frozen=True)
class Model:
    """What is shown of one model; `plot` is SVG."""

    name: str
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...]
    plot: str


def page(measured: Measured, against: Comparison | None = None) -> str:
    """The whole page. All that comes from files is escaped."""
    names = list(dict.fromkeys(cell.model for cell in measured.cells))
    trusted = all(cell.narrow and not cell.doubt for cell in measured.cells)
    template = templates.load("report/measure.html.j2", html=True, strip_blocks=True)
    count = len(measured.cells)
    return template.render(
        title=f"{count} {'figure' if count == 1 else 'figures'} of {len(names)} "
        f"{'model' if len(names) == 1 else 'models'}",
        state="good" if trusted and measured.finished else "held",
        sentences=show.sentences(measured),
        machine=show.machine(measured),
        header=show.HEADER[1:],
        figures=[i - 1 for i in show.FIGURES],
        models=[
            _model(name, [cell for cell in measured.cells if cell.model == name]) for name in names
        ],
        against=against,
        changes=show.changes(against) if against else [],
        changed=show.CHANGED,
    )


def _model(name: str, cells: Sequence[Cell]) -> Model:
    rows = tuple(show.row(cell)[1:] for cell in cells)
    longest = max(cell.rows_per_second.high or cell.rows_per_second.value for cell in cells)
    return Model(name, rows, tuple(_bar(cell, longest) for cell in cells), _plot(name, cells))


def _bar(cell: Cell, longest: float) -> Bar:
    figure = cell.rows_per_second
    whisker = None
    if figure.low is not None and figure.high is not None:
        low = max(figure.low, 0.0)
        whisker = (round(100 * low / longest, 2), round(100 * (figure.high - low) / longest, 2))
    width = round(100 * figure.value / longest, 2)
    return Bar(_label(cell), show.row(cell)[4], width, whisker, cell.precision == "fp32")


def _plot(name: str, cells: Sequence[Cell]) -> str:
    dots = [
        scatter.Dot(
            cell.p50_ms.value,
            cell.rows_per_second.value,
            f"{cell.precision} {cell.batch}",
            f"{cell.name}: {show.row(cell)[4]} rows/s, {show.row(cell)[6]} ms",
            kind="fp32" if cell.precision == "fp32" else "",
        )
        for cell in cells
    ]
    return scatter.scatter(f"{name}: latency and throughput", "p50, ms", "rows/s", dots, y_up=True)


def _label(cell: Cell) -> str:
    asked = f", {cell.callers} at once" if cell.callers else ""
    return f"{cell.precision} {cell.runtime}, batch {cell.batch}{asked}"
