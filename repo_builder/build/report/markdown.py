"""The report as Markdown for a pull request: what the page says, in tables."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from repo_builder.build.report import view
from repo_builder.build.report.causes import Cause
from repo_builder.build.report.types import Changes, Report
from repo_builder.build.report.view import Card, Line

_SIGNS = {"good": "✅", "held": "⚠️", "bad": "❌"}
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
_LINK = re.compile(r"@|://|www\.", re.IGNORECASE)
_NOTHING = "\u200b"
"""A space without width: what it cuts in two is no mention and no link."""


def text(report: Report) -> str:
    """The whole report as GitHub's Markdown; nothing of specs or tools acts as Markdown or HTML."""
    shown = view.of(report)
    verdict = shown.verdict
    parts = [f"## {_SIGNS[verdict.state]} {_plain(verdict.sentence)}"]
    parts += ["\n".join(f"- {_plain(note)}" for note in verdict.notes)]
    parts += [_cause(cause) for cause in shown.causes]
    if shown.changes:
        parts.append(_changes(shown.changes))
    parts += [_card(card) for card in shown.cards]
    if shown.cards:
        meant = "; ".join(f"{level}: {means}" for level, means in view.LEVELS.items())
        parts.append(f"Verified: {_plain(meant)}.")
    parts.append(" · ".join(f"{name} {_plain(said)}" for name, said in shown.about))
    return "\n\n".join(part for part in parts if part) + "\n"


def _cause(cause: Cause) -> str:
    who = ", ".join(_code(failure.row.id) for failure in cause.failures)
    sign = _SIGNS["held" if cause.gate else "bad"]
    if cause.alike:
        return f"{sign} **{who}**\n\n{_quoted(cause.failures[0].reason)}"
    reasons = (
        f"{_code(failure.row.id)}\n\n{_quoted(failure.reason)}" for failure in cause.failures
    )
    return f"{sign} **{who}**\n\n" + "\n\n".join(reasons)


def _changes(changes: Changes) -> str:
    since = f" since the build of {view.day(changes.since)}" if changes.since else ""
    rows = []
    for change in changes.models:
        found = {
            name: f"{before} → {now}" if before else now
            for name, before, now in view.figures(change)
        }
        figures = (_plain(found.get(name, "")) for name in ("size", "score", "latency"))
        rows.append([_code(change.id), change.what, *figures])
    table = _table(("model@target", "what", "size", "score", "latency"), rows, right=(2, 3, 4))
    return _folded(f"{len(rows)} changed{since}", table)


def _card(card: Card) -> str:
    header = ("target", "state", "size", "latency", "score", "gates", "verified", "digest", "serve")
    table = _table(header, map(_cells, card.lines), right=(2, 3, 4))
    title = f"{card.name}: {card.good} of {len(card.lines)} can be served"
    warnings = [
        f"- {_code(line.row.target)} warning: {_plain(warning)}"
        for line in card.lines
        for warning in line.row.warnings
    ]
    notes = [f"- {_code(targets)} {_plain(note)}" for targets, note in card.notes]
    notes += [
        f"- {_code(line.row.target)} {_plain(line.row.search.sentence)}"
        for line in card.lines
        if line.row.search
    ]
    facts = _plain(" · ".join(card.facts))
    return _folded(title, "\n\n".join(filter(None, [facts, table, "\n".join(warnings + notes)])))


def _cells(line: Line) -> list[str]:
    row = line.row
    return [
        f"{_code(row.target)} {_plain(row.precision)}",
        f"{_SIGNS[line.state]} {_plain(line.status)}",
        _two(line.size, line.smaller),
        _two(line.latency, line.faster),
        _two(line.score, line.change),
        "<br>".join(_plain(gate.text) for gate in line.gates),
        _plain(row.level),
        _code(row.digest),
        _code(line.serve),
    ]


def _two(figure: str, beside: str) -> str:
    return f"{_plain(figure)}<br>{_plain(beside)}" if beside else _plain(figure)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> str:
    rule = ["--:" if i in right else "---" for i in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{_html(title)}</summary>\n\n{body}\n\n</details>"


def _html(words: str) -> str:
    return " ".join(html.escape(_LINK.sub(rf"\g<0>{_NOTHING}", words), quote=False).split())


def _plain(words: str) -> str:
    """Words in one line that nothing in Markdown, HTML or GitHub's mentions takes for more."""
    return _html(_SPECIAL.sub(r"\\\1", words))


def _code(words: str) -> str:
    """Words as code: neither Markdown nor a mention; also inside a table."""
    if not words:
        return ""
    return f"`{' '.join(words.replace('`', chr(39)).split())}`".replace("|", "\\|")


def _quoted(words: str) -> str:
    """Lines as they are, in a block that they cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", words)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{words}\n{fence}"
