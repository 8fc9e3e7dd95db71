"""The committed JSON Schemas are those of the types that validate specs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from repo_builder.base import document
from repo_builder.cli import cli
from repo_builder.targets.loader import CATALOG
from repo_builder.targets.schema import of_targets

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spec.schema.json", []),
        ("defaults.schema.json", ["--defaults"]),
        ("target.schema.json", ["--targets"]),
        ("roi.schema.json", ["--roi"]),
        ("tuning.schema.json", ["--tuning"]),
    ],
)
def test_the_committed_schema_is_current(
    golden: Callable[[Path, str], None], name: str, options: list[str]
) -> None:
    printed = CliRunner().invoke(cli, ["schema", *options])
    assert printed.exit_code == 0
    Draft202012Validator.check_schema(json.loads(printed.stdout))
    golden(DOCS / name, printed.stdout)


def test_every_target_of_the_catalog_follows_its_schema() -> None:
    check = Draft202012Validator(of_targets())
    files = sorted(CATALOG.glob("*.yaml"))
    assert files
    for file in files:
        read, _ = document.read(file)
        assert read is not None
        assert not list(check.iter_errors(read.value)), file
    assert list(check.iter_errors({"tilte": "a typing error"}))
