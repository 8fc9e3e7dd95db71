"""What a build says afterwards: report.json and a self-contained report.html."""

from __future__ import annotations

import json
from pathlib import Path

from repo_builder.report.types import Report


def write(report: Report, out: Path) -> None:
    """Write `report.json` and `report.html` into the folder `out`, each in one step."""
    from repo_builder.report import html

    text = json.dumps(report.as_json(), indent=2, sort_keys=True) + "\n"
    _replace(out / "report.json", text)
    _replace(out / "report.html", html.page(report))


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
