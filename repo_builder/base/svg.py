"""Small line charts as SVG text, without any library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 60
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")

Points = Sequence[tuple[float, float]]


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Points],
    *,
    x_ticks: Sequence[tuple[float, str]] = (),
    marks: Points = (),
) -> str:
    """A chart of `series`, name -> (x, y) points; axes from the data, y from 0.

    `x_ticks` are (x, text); without them five are spread evenly. Points that are not finite are
    left out. `marks` are points within the series' range to draw a ring around. The class of the
    first series is `series0`, so that a page can give it colours of its own.
    """
    clean = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    xs = [x for points in clean.values() for x, _ in points] or [0.0]
    top = _round_up(max((y for points in clean.values() for _, y in points), default=1.0) or 1.0)
    low, high = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM)

    ticks = x_ticks or [(v, f"{v:.3g}") for v in (low + i * (high - low) / 5 for i in range(6))]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for i in range(6):
        value = top * i / 5
        x, y = at(low, value)
        parts.append(f'<path d="M{x:.1f},{y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value, text in ticks:
        x, y = at(value, 0.0)
        parts.append(
            f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{escape(text)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 22}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    for number, (name, points) in enumerate(clean.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = "L".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        if points:
            parts.append(
                f'<path class="series{number}" d="M{path}" fill="none" stroke="{colour}" '
                'stroke-width="2"/>'
            )
        x = _LEFT + 10 + number * 150
        parts.append(
            f'<text class="series{number}" x="{x}" y="{_HEIGHT - 6}" fill="{colour}">'
            f"{escape(name)}</text>"
        )
    for x, y in (at(*mark) for mark in marks):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="black"/>')
    return "\n".join([*parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999999)
