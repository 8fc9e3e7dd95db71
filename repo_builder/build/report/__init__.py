"""What a build says afterwards: report.json, a self-contained report.html, and Markdown.

`types` has the rows that a build fills in, `confidence` what they say of a policy, `changes` what
differs from the build before. `view` turns a report into what people read, with failures by
`causes`; `html` (with `charts`, `plots` and `logs`) and `markdown` show that. `write` below puts
the files into the output. What the rows are made from belongs to `assemble` and
`assemble_pipeline`, what a limit is to `gates`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from repo_builder.base.errors import OutputError, disk_fix
from repo_builder.build.report.types import Report, Row, report_of

__all__ = ["Report", "Row", "read", "write", "write_markdown"]

JSON, HTML = "report.json", "report.html"


def read(out: Path) -> Report | None:
    """The report in the folder `out`; None where there is none that this version can read."""
    try:
        return report_of(json.loads((out / JSON).read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def write(report: Report, out: Path, *, whole: bool = True) -> None:
    """Write `report.json` and `report.html` into the folder `out`, made where it is not there.

    A report that is not `whole` keeps the other rows of the one before. Each file comes in one
    step. Raises OutputError where the folder cannot be written.
    """
    from repo_builder.build.report import html

    if not whole and (before := read(out)) is not None:
        report = report.over(before)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=out) as folder:
            for name, content in ((JSON, _text(report)), (HTML, html.page(report))):
                draft = Path(folder) / name
                draft.write_text(content, encoding="utf-8")
                draft.replace(out / name)
    except OSError as failure:
        what = f"{failure.strerror or failure}; {disk_fix(failure)}"
        raise OutputError(f"{out}: {what}, or use another --out") from failure


def write_markdown(out: Path, file: Path) -> None:
    """Write what the report in the folder `out` says as Markdown into `file`.

    Raises OutputError where it cannot be written.
    """
    from repo_builder.build.report import markdown

    report = read(out)
    if report is None:
        raise OutputError(f"{out / JSON}: no report that this version can read; build again")
    try:
        file.write_text(markdown.text(report), encoding="utf-8")
    except OSError as failure:
        what = f"{failure.strerror or failure}; {disk_fix(failure)}"
        raise OutputError(f"{file}: {what}, or use another --markdown") from failure


def _text(report: Report) -> str:
    """The report as JSON, a row a line: short to write, and to look at."""
    plain = report.as_json()
    parts = {key: json.dumps(value, sort_keys=True) for key, value in plain.items()}
    rows = ",\n  ".join(json.dumps(row, sort_keys=True) for row in plain["rows"])
    parts["rows"] = f"[\n  {rows}\n ]" if rows else "[]"
    return "{" + ",".join(f'\n "{key}": {text}' for key, text in sorted(parts.items())) + "\n}\n"
