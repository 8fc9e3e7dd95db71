"""What all tests share: a rule for services that a machine may lack, and files known to be good."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

# Builds make images where an engine answers; here only the tests of images do.
os.environ["REPO_BUILDER_IMAGES"] = "0"


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Call with a reason where a service cannot be had: skips, or fails where all are required."""

    def report(reason: str) -> NoReturn:
        if os.environ.get("REPO_BUILDER_REQUIRE_ALL") == "1":
            pytest.fail(f"required here, but unavailable: {reason}")
        pytest.skip(reason)

    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="Write golden files anew.")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Call with a file and the text it should hold: compares, or with --regenerate writes."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--regenerate"):
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, f"{path} is old; run: make golden"

    return check
