"""The table of rules in docs/lint.md is that of the rules themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repo_builder.repository.lint import RULES

PAGE = Path(__file__).parents[2] / "docs" / "lint.md"
MARK = "<!-- The table is written by `pytest tests/golden --regenerate`. -->\n"


def test_the_table_of_rules_is_current(golden: Callable[[Path, str], None]) -> None:
    text, mark, _ = PAGE.read_text().partition(MARK)
    assert mark
    rows = [
        f"| `{rule.id}` | {rule.severity} | {rule.judge} | {rule.summary} | {rule.source} |"
        for rule in RULES
    ]
    head = ["| rule | severity | judge | what it wants | source |", "|---|---|---|---|---|"]
    golden(PAGE, text + mark + "\n" + "\n".join(head + rows) + "\n")
