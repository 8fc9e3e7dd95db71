"""Which of the targets that ran here is best for a model, where a search built it for them."""

from __future__ import annotations

from collections.abc import Sequence

from repo_builder.base import console
from repo_builder.build.report.search import WHAT
from repo_builder.build.report.types import Row


def best(rows: Sequence[Row]) -> str:
    """Of the rows of one model those that `auto` built and that ran here, in one sentence.

    By size, or by the latency or energy of one request, as the spec asked: so runtimes are compared
    with each other, of which each target has one. "" where there are not two of them.
    """
    found = [row for row in rows if row.good and row.search and row.level == "executed"]
    objective = found[0].search.objective if found and found[0].search else ""
    costs = {row.target: _cost(row, objective) for row in found}
    known = {target: cost for target, cost in costs.items() if cost is not None}
    if len(known) < 2:
        return ""
    first, *others = sorted(known, key=known.__getitem__)
    doubt = " ?" if any(row.latency and row.latency.doubt for row in found) else ""
    figures = ", ".join(f"{target} {_text(known[target], objective)}" for target in others)
    said = f"{WHAT[objective]} on {first}: {_text(known[first], objective)}; {figures}"
    return said + (doubt if objective != "size" else "")


def _cost(row: Row, objective: str) -> float | None:
    if objective == "size":
        return row.size
    if objective == "energy":
        return row.energy.joules if row.energy else None
    return row.latency.p50_ms if row.latency else None


def _text(cost: float, objective: str) -> str:
    if objective == "energy":
        return f"{1e3 * cost:.3g} mJ"
    return console.megabytes(int(cost)) if objective == "size" else f"{cost:.3g} ms"
