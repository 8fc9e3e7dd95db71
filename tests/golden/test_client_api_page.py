"""docs/client-api.md is what the client's docstrings and signatures say, and these say enough."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import client_api
import pytest

from repo_builder import client

PAGE = Path(__file__).parents[2] / "docs" / "client-api.md"
NAMES = [name for names in client_api.GROUPS.values() for name in names]


def test_the_page_is_current(golden: Callable[[Path, str], None]) -> None:
    golden(PAGE, client_api.page())


def test_every_public_name_is_on_it_once() -> None:
    assert sorted(NAMES) == sorted(client.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_described_with_its_fields_and_members(name: str) -> None:
    kind = getattr(client, name)
    assert vars(kind)["__doc__"]
    assert client_api.fields(kind).keys() == client_api.shown(kind).keys()
    for member in client_api.members(kind).values():
        assert inspect.getdoc(member)


@pytest.mark.parametrize("name", ["EdgeClient", "AsyncEdgeClient", "SyncSequence"])
def test_a_call_says_its_unit_of_time_and_what_it_raises(name: str) -> None:
    for called, member in client_api.members(getattr(client, name)).items():
        said = inspect.getdoc(member) or ""
        if said.startswith("As `"):
            continue
        if "timeout" in inspect.signature(client_api.function(member)).parameters:
            assert "seconds" in said, called
            assert "rais" in said.lower() or "errors" in said, called
