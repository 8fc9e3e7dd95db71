"""Failures by cause: rows that fail alike, whatever their names, paths and figures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from repo_builder.build.report.types import Report, Row

_LOG = re.compile(r"[;,]? *log: (/[^;\n]*)")
_PATH = re.compile(r"(?:\.{0,2}/)?(?:[\w.@+-]+/)+[\w.@+-]+")
_FIGURE = re.compile(r"-?\b\d[\d.,]*(?:e[+-]?\d+)?\b", re.IGNORECASE)

_ENOUGH = 2000
"""Characters of a reason that tell its cause."""


@dataclass(frozen=True)
class Failure:
    """Why one row is not good, without its log's path, which is `log` ("": it has none)."""

    row: Row
    reason: str
    log: str


@dataclass(frozen=True)
class Cause:
    """Rows that fail for one reason. `title` is what the first of them says, in one line."""

    title: str
    gate: bool
    failures: tuple[Failure, ...]

    @property
    def alike(self) -> bool:
        """Whether all say the same word for word, so that once is enough."""
        return len({failure.reason for failure in self.failures}) == 1


def of(report: Report) -> tuple[Cause, ...]:
    """The causes of all failures, the one of most rows first."""
    groups: dict[tuple[str, str], list[Failure]] = {}
    for row in report.rows:
        if not row.good:
            found = _LOG.search(row.reason)
            reason = _LOG.sub("", row.reason).strip() or row.status
            failure = Failure(row, reason, found.group(1).strip() if found else "")
            groups.setdefault((row.status, _kind(failure)), []).append(failure)
    causes = (
        Cause(failures[0].reason.splitlines()[0], status == "gate failed", tuple(failures))
        for (status, _), failures in groups.items()
    )
    return tuple(sorted(causes, key=lambda cause: -len(cause.failures)))


def _kind(failure: Failure) -> str:
    """The reason with a blank for what differs from row to row."""
    text = failure.reason[:_ENOUGH]
    for name in sorted({failure.row.id, failure.row.name, failure.row.target}, key=len)[::-1]:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "*", text)
    return " ".join(_FIGURE.sub("#", _PATH.sub("*", text)).split())
