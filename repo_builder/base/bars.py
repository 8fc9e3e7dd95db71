"""Horizontal bars as SVG text, without any library: one figure for each name, the largest first."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 760, 240, 70, 58, 20
_LINE = 17
_LINE_LETTERS = 112
_LETTERS = 34
"""Of a name as shown; the whole is its tooltip."""


@dataclass(frozen=True)
class Bar:
    """A bar: `text` stands at its end, `kind` chooses its colour."""

    name: str
    value: float
    text: str
    kind: str


def bars(title: str, subtitle: str, rows: Sequence[Bar], colours: Mapping[str, str]) -> str:
    """A chart of `rows` from the top, bars from 0; a legend of the kinds in `colours` that occur.

    Bars that are not finite are as long as the longest.
    """
    longest = max((row.value for row in rows if math.isfinite(row.value)), default=0.0) or 1.0
    kinds = [kind for kind in colours if any(row.kind == kind for row in rows)]
    said = textwrap.wrap(subtitle, _LINE_LETTERS)
    top = _TOP + _LINE * max(len(said) - 1, 0)
    height = top + _ROW * len(rows) + 16 + (24 if kinds else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="22" font-size="15">{escape(title)}</text>',
    ]
    for number, line in enumerate(said):
        parts.append(f'<text x="16" y="{42 + _LINE * number}" fill="#555">{escape(line)}</text>')
    for number, row in enumerate(rows):
        y = top + _ROW * number
        part = min(row.value / longest, 1.0) if math.isfinite(row.value) else 1.0
        end = _LEFT + part * (_WIDTH - _LEFT - _RIGHT)
        name, at = escape(_short(row.name)), f'y="{y + 14}"'
        parts.append(
            f"<g><title>{escape(row.name)}</title>"
            f'<text x="{_LEFT - 8}" {at} text-anchor="end">{name}</text>'
            f'<rect x="{_LEFT}" y="{y + 3}" width="{max(end - _LEFT, 1):.1f}" height="{_ROW - 6}" '
            f'fill="{escape(colours.get(row.kind, "#888"))}"/>'
            f'<text x="{end + 6:.1f}" {at} fill="#555">{escape(row.text)}</text></g>'
        )
    across, y = float(_LEFT), top + _ROW * len(rows) + 24
    for kind in kinds:
        parts.append(
            f'<rect x="{across:.0f}" y="{y - 10}" width="12" height="12" '
            f'fill="{escape(colours[kind])}"/>'
            f'<text x="{across + 18:.0f}" y="{y}">{escape(kind)}</text>'
        )
        across += 40 + 7 * len(kind)
    return "\n".join([*parts, "</svg>", ""])


def _short(name: str) -> str:
    """The end of a name that is too long: it tells layers apart."""
    return name if len(name) <= _LETTERS else "…" + name[1 - _LETTERS :]
