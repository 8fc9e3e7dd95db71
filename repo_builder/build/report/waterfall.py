"""Where the time of a pipeline goes, one stage behind the other."""

from __future__ import annotations

from dataclasses import dataclass

from repo_builder.build.report.types import Budget

_NEAR = 2.0
"""A limit beyond so many times the total is not drawn: the stages would be too small to see."""


@dataclass(frozen=True)
class Stage:
    """A bar from where the stage before it ends; `left` and `width` in % of the whole.

    `given`: the spec says how long it takes. `text` is its time in ms.
    """

    name: str
    text: str
    left: float
    width: float
    given: bool


def of(budget: Budget) -> tuple[Stage, ...]:
    """The stages in the order in which a request meets them; those of no time are left out."""
    whole = _whole(budget)
    found, begins = [], 0.0
    for name, ms in budget.stages.items():
        if ms > 0:
            left, width = (round(100 * part / whole, 2) for part in (begins, ms))
            given = name in ("capture", "transfer")
            found.append(Stage(name, f"{ms:.2f} ms", left, width, given))
        begins += ms
    return tuple(found)


def limit(budget: Budget) -> float | None:
    """Where the budget for all of it ends, in % of the whole; None without one, or far beyond."""
    whole = _whole(budget)
    if budget.limit_ms is None or budget.limit_ms > whole:
        return None
    return round(100 * budget.limit_ms / whole, 2)


def _whole(budget: Budget) -> float:
    """What the chart is as wide as: the total, or a limit that is not far beyond it."""
    limit = budget.limit_ms or 0.0
    near = limit if limit <= _NEAR * budget.total_ms else 0.0
    return max(budget.total_ms, near) or 1.0
