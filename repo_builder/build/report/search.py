"""What `optimize: auto` found, as a report tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from repo_builder.base import console, scatter

WHAT = {"size": "smallest", "latency": "fastest", "energy": "one of least energy"}
"""What an objective looks for."""


@dataclass(frozen=True)
class Tried:
    """A candidate: bytes, times faster than fp32, times less energy, drop of the score that chose.

    `why_not` says why it did not win, "" of the winner. Figures are None where it was not tried.
    """

    name: str
    size: int | None
    faster: float | None
    less: float | None
    drop: float | None
    why_not: str

    @property
    def figures(self) -> tuple[str, str, str, str]:
        """Size, speed, energy and drop as texts, "" where not known."""
        return (
            "" if self.size is None else console.megabytes(self.size),
            "" if self.faster is None else f"{self.faster:.2f}x",
            "" if self.less is None else f"{self.less:.2f}x less",
            "" if self.drop is None else f"{self.drop:+.4f}",
        )


@dataclass(frozen=True)
class Search:
    """What `optimize: auto` found: the `winner` by `objective`, and all that it might have been.

    Not `complete`: the time was up. `looks` is how many winners were held to rows that chose
    nothing.
    """

    objective: str
    winner: str
    complete: bool
    seconds: float
    looks: int
    candidates: tuple[Tried, ...]

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        tried = sum(one.size is not None or bool(one.drop) for one in self.candidates)
        what = WHAT[self.objective]
        of = f"of {tried} tried of {len(self.candidates)} in {console.seconds(self.seconds)}"
        late = "" if self.complete else "; the time was up, a larger `budget_s` goes on from here"
        return f"auto took {self.winner}, the {what} that keeps the gates {of}{late}"

    def as_json(self) -> dict[str, Any]:
        """The search as plain JSON types."""
        return asdict(self)


def search_of(plain: Mapping[str, Any]) -> Search:
    """The search that `as_json` wrote."""
    tried = tuple(Tried(**one) for one in plain["candidates"])
    return Search(**{**plain, "candidates": tried})


def frontier(name: str, found: Search) -> str:
    """The candidates that were tried, as SVG: the drop of the score by what is to be small.

    Their labels are their places in the list, from 1 on. "" of less than two.
    """
    small, spends = found.objective == "size", found.objective == "energy"
    dots = []
    for number, one in enumerate(found.candidates, 1):
        ratio = one.less if spends else one.faster
        across = one.size if small else ratio and 1 / ratio
        if across is None or one.drop is None:
            continue
        x = across / 1e3 if small else across
        kind = "refused" if one.why_not else "built"
        about = f"{one.name}: {one.why_not or 'won'}"
        dots.append(scatter.Dot(x, one.drop, str(number), about, kind=kind))
    if len({(dot.x, dot.y) for dot in dots}) < 2:
        return ""
    spent = "energy" if spends else "time"
    across_label = "size, KB" if small else f"{spent} of one request, fp32 is 1"
    return scatter.scatter(
        f"{name}: what auto tried", across_label, "drop of the score", dots, y_up=False
    )
