"""The report as one HTML page: nothing is loaded from elsewhere, and all of it is read without
JavaScript, which only filters and sorts.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from repo_builder.base import console, resources, templates
from repo_builder.build.report import charts, logs, plots, search, view, waterfall
from repo_builder.build.report.types import Report


def page(report: Report) -> str:
    """The whole page, with the ends of the logs that are here. All that comes from specs and tools
    is escaped."""
    template = templates.load("report/page.html.j2", html=True, strip_blocks=True)
    shown = view.of(report)
    return template.render(
        view=shown,
        charts=charts.of(report),
        levels=view.LEVELS,
        script_digest=_digest(resources.folder("templates") / "report" / "script.js"),
        targets=sorted({row.target for row in report.rows}),
        figures=view.figures,
        day=view.day,
        megabytes=console.megabytes,
        pareto=plots.pareto,
        frontier=search.frontier,
        trade_off=plots.trade_off,
        sentences=plots.sentences,
        waterfall=waterfall.of,
        budget_ends=waterfall.limit,
        log_ends=logs.ends(shown.causes),
    )


def _digest(script: Path) -> str:
    """What the page's Content-Security-Policy calls the one script that may run."""
    made = hashlib.sha256(script.read_bytes()).digest()
    return f"sha256-{base64.b64encode(made).decode()}"
