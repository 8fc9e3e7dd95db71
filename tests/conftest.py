"""What all tests share: a rule for services that a machine may lack, and files known to be good."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

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


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As `--dist loadfile`, but the files in cases/images, which share an engine, go as one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(super()._split_scope(nodeid))
            return str(file.parent if file.parent.match("cases/images") else file)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


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
