"""The committed JSON Schemas are those of the types that validate specs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from repo_builder.cli import cli

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "options"),
    [("spec.schema.json", []), ("defaults.schema.json", ["--defaults"])],
)
def test_the_committed_schema_is_current(
    golden: Callable[[Path, str], None], name: str, options: list[str]
) -> None:
    printed = CliRunner().invoke(cli, ["schema", *options])
    assert printed.exit_code == 0
    Draft202012Validator.check_schema(json.loads(printed.stdout))
    golden(DOCS / name, printed.stdout)
