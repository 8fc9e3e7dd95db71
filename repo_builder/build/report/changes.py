"""What a build changed since the one before, from both reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from repo_builder.build.report.types import Change, Changes, Report, Row

_FIRST = ("no longer good", "good again", "new", "gone", "rebuilt", "measured again")
"""Kinds of changes in the order in which people want to know them."""


def noted(report: Report, before: Report | None, *, whole: bool) -> Report:
    """`report` with what it changed since `before`, the report that its output had.

    A build that changed nothing keeps what the one before said. Only a `whole` one can tell that
    a model@target is gone.
    """
    if before is None:
        return report
    earlier = {row.id: row for row in before.rows}
    found = [_change(earlier.pop(row.id, None), row) for row in report.rows]
    if whole:
        found += [Change(row.id, "gone", _figures(row, None)) for row in earlier.values()]
    changed = tuple(sorted(filter(None, found), key=lambda one: _FIRST.index(one.what)))
    if not changed:
        return replace(report, changes=before.changes)
    since = before.provenance.at if before.provenance else ""
    return replace(report, changes=Changes(since, changed))


def _change(before: Row | None, now: Row) -> Change | None:
    """None where both say the same; a figure that was not measured anew is the same."""
    if before is None:
        return Change(now.id, "new", _figures(None, now))
    figures = _figures(before, now)
    if before.good != now.good:
        return Change(now.id, "good again" if now.good else "no longer good", figures)
    same_bytes = (before.digest, before.version) == (now.digest, now.version)
    if not now.good or (same_bytes and _taken(before) == _taken(now)):
        return None
    return Change(now.id, "measured again" if same_bytes else "rebuilt", figures)


def _taken(row: Row) -> str:
    return row.latency.at if row.latency else ""


def _figures(before: Row | None, now: Row | None) -> Mapping[str, tuple[float | None, ...]]:
    """The figures of both that at least one has."""
    pairs = zip(_of(before), _of(now), strict=True)
    named = zip(("size", "score", "p50_ms"), pairs, strict=True)
    return {name: pair for name, pair in named if pair != (None, None)}


def _of(row: Row | None) -> tuple[float | None, float | None, float | None]:
    if row is None:
        return None, None, None
    score = row.score.built if row.score else None
    return row.size, score, row.latency.p50_ms if row.latency else None
