"""What a build says afterwards: report.json and a self-contained report.html.

`types` has the rows that a build fills in, `confidence` what they say of a policy, `html` the page;
`write` below puts both files into the output. What the rows are made from belongs to `assemble`
and `assemble_pipeline`, what a limit is to `gates`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from repo_builder.base.errors import OutputError, disk_fix
from repo_builder.build.report.types import Report, Row

__all__ = ["Report", "Row", "write"]


def write(report: Report, out: Path) -> None:
    """Write `report.json` and `report.html` into the folder `out`, made where it is not there.

    Each comes in one step. Raises OutputError where the folder cannot be written.
    """
    from repo_builder.build.report import html

    text = json.dumps(report.as_json(), indent=2, sort_keys=True) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=out) as folder:
            for name, content in (("report.json", text), ("report.html", html.page(report))):
                draft = Path(folder) / name
                draft.write_text(content, encoding="utf-8")
                draft.replace(out / name)
    except OSError as failure:
        what = f"{failure.strerror or failure}; {disk_fix(failure)}"
        raise OutputError(f"{out}: {what}, or use another --out") from failure
