"""Small scatter plots as SVG text, without any library; colours come from the page's CSS classes.

Classes: `grid`, `axis`, `front` (the line of the best), `dot` and one of the caller's for a point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 16, 18, 46
_GAP = 4.0
"""Between dots and their label, in px."""
_TOUCHING = 12.0
"""Points share one label where there is less room between them, in px."""
_CHARACTER, _LINE = 7.0, 12.0
"""What a label takes: a character's width and the height of the line, in px."""


@dataclass(frozen=True)
class Dot:
    """A point: `label` stands beside it, `about` is its tooltip, `radius` in px, `kind` a class."""

    x: float
    y: float
    label: str
    about: str
    radius: float = 5.0
    kind: str = ""


_STYLE = (
    ".grid{stroke:#ddd;fill:none}.axis{stroke:#666;fill:none}"
    ".front{stroke:#2a7d46;stroke-width:1.5;stroke-dasharray:4 3;fill:none}"
    ".dot{fill:#1f77b4;fill-opacity:.6;stroke:#1f77b4}"
)

_Placed: TypeAlias = tuple[Dot, float, float]
"""A dot, and where it is drawn."""


@dataclass(frozen=True)
class _Box:
    left: float
    right: float
    top: float
    bottom: float

    def covers(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def scatter(title: str, x_label: str, y_label: str, dots: Sequence[Dot], *, y_up: bool) -> str:
    """A plot of `dots` with the line of those that no other beats: less x, and more y if `y_up`.

    Axes cover the data and no more, with round ticks. Dots that are not finite are left out.
    """
    clean = [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
    xs, x_low, x_high = _ticks([dot.x for dot in clean])
    ys, y_low, y_high = _ticks([dot.y for dot in clean])

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return across, _HEIGHT - _BOTTOM - up

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
    ]
    floor = _HEIGHT - _BOTTOM
    for value, text in ys:
        _, y = at(x_low, value)
        parts.append(f'<path class="grid" d="M{_LEFT},{y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in xs:
        x, _ = at(value, y_low)
        parts.append(f'<path class="grid" d="M{x:.1f},{_TOP}V{floor}"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{text}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT},{_TOP}V{floor}H{_WIDTH - _RIGHT}"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="name" x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="name" transform="translate(12 {(_TOP + floor) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    front = [at(dot.x, dot.y) for dot in best(clean, y_up=y_up)]
    if len(front) > 1:
        line = f"M{front[0][0]:.1f},{front[0][1]:.1f}"
        line += "".join(f"H{x:.1f}V{y:.1f}" for x, y in front[1:])
        parts.append(f'<path class="front" d="{line}"/>')
    for dot in sorted(clean, key=lambda dot: -dot.radius):
        x, y = at(dot.x, dot.y)
        parts.append(
            f'<circle class="dot {escape(dot.kind)}" cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{dot.radius:.1f}"><title>{escape(dot.about)}</title></circle>'
        )
    parts += _labels([(dot, *at(dot.x, dot.y)) for dot in sorted(clean, key=lambda dot: dot.x)])
    return "\n".join([*parts, "</svg>"])


def standalone(plot: str) -> str:
    """A plot with its own colours and a white ground, as a file rather than a part of a page."""
    return plot.replace(
        "<svg ",
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11" '
        'style="background:#fff" ',
        1,
    ).replace("<title>", f"<style>{_STYLE}</style><title>", 1)


def best(dots: Sequence[Dot], *, y_up: bool) -> list[Dot]:
    """The dots that no other beats in x (less) and y (more if `y_up`), by rising x."""
    sign = -1.0 if y_up else 1.0
    front: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.x, sign * dot.y)):
        if not front or sign * dot.y < sign * front[-1].y:
            front.append(dot)
    return front


def _labels(placed: Sequence[_Placed]) -> list[str]:
    """The labels, one for dots that touch, each where it covers no dot and no label before it."""
    groups: list[list[_Placed]] = []
    for one in placed:
        if group := next((group for group in groups if _touch(group[0], one)), None):
            group.append(one)
        else:
            groups.append([one])
    taken = [_Box(x - d.radius, x + d.radius, y - d.radius, y + d.radius) for d, x, y in placed]
    texts = []
    for group in groups:
        said = ", ".join(dict.fromkeys(dot.label for dot, _, _ in group))
        places = list(_places(group, len(said) * _CHARACTER))
        box, anchor = next(
            ((box, anchor) for box, anchor in places if not any(map(box.covers, taken))), places[0]
        )
        taken.append(box)
        x = box.left if anchor == "start" else box.right
        texts.append(
            f'<text class="label" x="{x:.1f}" y="{box.bottom:.1f}" '
            f'text-anchor="{anchor}">{escape(said)}</text>'
        )
    return texts


def _places(group: Sequence[_Placed], width: float) -> Iterator[tuple[_Box, str]]:
    """Where the label of dots may stand, the best first: beside them, a line higher, lower, ..."""
    left = min(x - dot.radius for dot, x, _ in group) - _GAP
    right = max(x + dot.radius for dot, x, _ in group) + _GAP
    y = min(y for _, _, y in group) - _GAP
    for line in (0, -1, 2, -2, 3):
        bottom = y + line * _LINE
        sides = [
            (_Box(right, right + width, bottom - _LINE, bottom), "start"),
            (_Box(left - width, left, bottom - _LINE, bottom), "end"),
        ]
        rightwards = right < _WIDTH * 0.65
        for box, anchor in sides if rightwards else sides[::-1]:
            inside = box.left > _LEFT and box.right < _WIDTH and 0 < box.top < _HEIGHT - _BOTTOM
            if inside or (line == 0 and (anchor == "start") == rightwards):
                yield box, anchor


def _touch(one: _Placed, other: _Placed) -> bool:
    room = math.dist(one[1:], other[1:]) - one[0].radius - other[0].radius
    return room < _TOUCHING


def _ticks(values: Sequence[float]) -> tuple[list[tuple[float, str]], float, float]:
    """Round ticks with their texts, and the ends of an axis that covers `values` with some room."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.1 or abs(high) * 0.01 or 1.0
    begin = max(0.0, low - room) if low >= 0 else low - room
    end = min(high + room, 1.0) if high <= 1.0 else high + room  # a share is no more than 1
    rough = (end - begin) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(begin / step - 1e-9)
    last = math.floor(end / step + 1e-9)
    ticks = [(i * step, f"{i * step:.{digits}f}") for i in range(first, last + 1)]
    return ticks, begin, end
