"""An answer as Markdown, which is also the text of a terminal, as a plot and as a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape

from repo_builder.base import templates
from repo_builder.tune.economics.model import Answer, Swing

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 760, 230, 110, 62, 24
_LESS, _MORE = "#d62728", "#2ca02c"


def money(value: float, currency: str) -> str:
    """`1.5M USD`, `-320k USD`, `12 USD`."""
    return f"{short(value)} {currency}"


def short(value: float) -> str:
    """Three figures: `0.05`, `12`, `300k`, `1.5M`."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def years(value: float) -> str:
    """`10.0 years`, `4.5 months`, or `never`."""
    if value < 1:
        return f"{12 * value:.1f} months"
    return "never" if math.isinf(value) else f"{value:.1f} years"


def sentences(found: Answer) -> Iterator[str]:
    """What it amounts to, in words, the most important first."""
    likely = found.likely
    said = f"pays back in {years(likely.payback)}" if math.isfinite(likely.payback) else None
    if said is None:
        yield (
            "never pays back: a year at the edge costs more than in the cloud"
            if likely.saving <= 0
            else "never pays back: interest takes more than a year saves"
        )
    elif likely.payback > found.years:
        yield f"{said}, but the devices last {found.years:g}: it does not pay"
    else:
        yield f"{said}; the devices last {found.years:g}"
    yield (
        f"a year saves {money(likely.saving, found.currency)}; once "
        f"{money(sum(likely.once.values()), found.currency)}; worth "
        f"{money(likely.value, found.currency)} over {found.years:g} years"
    )
    if found.payback and found.value and found.pays is not None:
        low, high = found.payback
        yield (
            f"by the ranges given: {years(low)} to {years(high)} in nine of ten cases, worth "
            f"{money(found.value[0], found.currency)} to {money(found.value[1], found.currency)}; "
            f"it pays in {found.pays:.0%} of them"
        )
    else:
        yield "no figure has a range, so how sure this is cannot be told"


def rows(found: Answer) -> list[tuple[str, str, str]]:
    """A year's costs: (what, cloud, edge)."""
    likely, currency = found.likely, found.currency
    table = [
        (name, money(cost, currency), money(likely.edge[name], currency))
        for name, cost in likely.cloud.items()
    ]
    both = (sum(likely.cloud.values()), sum(likely.edge.values()))
    return [*table, ("a year", money(both[0], currency), money(both[1], currency))]


def markdown(found: Answer) -> str:
    """The answer as Markdown."""
    lines = ["# Does the edge pay?", "", *(f"- {line}" for line in sentences(found)), ""]
    lines += ["| a year | cloud | edge |", "|---|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(found)]
    lines += ["", "| once | |", "|---|---:|"]
    lines += [f"| {n} | {money(v, found.currency)} |" for n, v in found.likely.once.items()]
    lines += ["", f"## What it hangs on ({_by(found)})", ""]
    lines += ["| figure | from | to | worth then |", "|---|---:|---:|---|"]
    for swing in found.swings:
        worth = " to ".join(money(v, found.currency) for v in (swing.value_low, swing.value_high))
        lines.append(f"| {swing.name} | {short(swing.low)} | {short(swing.high)} | {worth} |")
    return "\n".join([*lines, ""])


def tornado(found: Answer) -> str:
    """What the value hangs on, as SVG: a bar a figure from its low to its high end."""
    ends = [v for s in found.swings for v in (s.value_low, s.value_high)]
    base = found.likely.value
    low, high = min([base, 0.0, *ends]), max([base, 0.0, *ends])
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return _LEFT + (value - low) / span * (_WIDTH - _LEFT - _RIGHT)

    height = _TOP + _ROW * len(found.swings) + 40
    bottom = height - 32
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        "<title>What it hangs on</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<text x="16" y="22" font-size="15">What it hangs on</text>',
        f'<text x="16" y="42" fill="#555">worth over {found.years:g} years, '
        f"{escape(_by(found))}</text>",
    ]
    for number, swing in enumerate(found.swings):
        parts += _bar(swing, _TOP + _ROW * number, at, base, found.currency)
    for value, text, dash in ((base, "likely", ""), (0.0, "even", ' stroke-dasharray="4 3"')):
        x = at(value)
        parts.append(f'<path d="M{x:.1f},{_TOP - 4}V{bottom}" stroke="#333"{dash}/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + (14 if dash else 28)}" text-anchor="middle" '
            f'fill="#333">{text}: {escape(money(value, found.currency))}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _bar(
    swing: Swing, y: float, at: Callable[[float], float], base: float, currency: str
) -> Iterator[str]:
    name = escape(swing.name)
    yield f'<text x="{_LEFT - 8}" y="{y + 15:.0f}" text-anchor="end">{name}</text>'
    for end, value in ((swing.low, swing.value_low), (swing.high, swing.value_high)):
        left, right = sorted((at(base), at(value)))
        yield (
            f'<rect x="{left:.1f}" y="{y + 4:.0f}" width="{max(right - left, 0.5):.1f}" '
            f'height="{_ROW - 8}" fill="{_MORE if value >= base else _LESS}" fill-opacity="0.8">'
            f"<title>{name} {short(end)}: {escape(money(value, currency))}</title>"
            "</rect>"
        )
    right = max(at(base), at(swing.value_low), at(swing.value_high))
    yield (
        f'<text x="{right + 6:.1f}" y="{y + 15:.0f}" fill="#555">'
        f"{short(swing.low)} to {short(swing.high)}</text>"
    )


def html(found: Answer) -> str:
    """The answer as one page without requests to anywhere."""
    return templates.load("roi.html.j2", html=True).render(
        sentences=list(sentences(found)),
        rows=rows(found),
        once=[(n, money(v, found.currency)) for n, v in found.likely.once.items()],
        plot=tornado(found),
    )


def _by(found: Answer) -> str:
    return "each figure 20 % down and up" if found.assumed else "each figure over its range"
