"""The waterfalls as one HTML page, in the look of the build's report."""

from __future__ import annotations

from repo_builder.base import templates
from repo_builder.tune.trace.ask import Traced
from repo_builder.tune.trace.events import Request


def page(found: Traced) -> str:
    """The slowest request and the median one. All that comes from servers is escaped."""
    both = (("slowest", found.slowest), ("median", found.median))
    template = templates.load("report/trace.html.j2", html=True, strip_blocks=True)
    return template.render(
        model=found.model,
        count=len(found.requests),
        slowest=found.slowest.total_ms,
        median=found.median.total_ms,
        why=found.why_statistics,
        shown=[(name, request, _bars(request)) for name, request in both],
    )


def _bars(request: Request) -> list[tuple[str, str, float, float, bool]]:
    """Label, text, left and width in %, and whether it is outside of Triton."""
    whole = request.total_ms or 1.0
    return [
        (
            f"{stage.model} {stage.name}".strip(),
            f"{stage.ms:.3f} ms",
            round(100 * (stage.begins_ms or 0.0) / whole, 2),
            round(min(100.0, 100 * stage.ms / whole), 2),
            not stage.model,
        )
        for stage in request.stages
    ]
