"""What all tests share: one rule for services that a machine may lack."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Call with a reason where a service cannot be had: skips, or fails where all are required."""

    def report(reason: str) -> NoReturn:
        if os.environ.get("REPO_BUILDER_REQUIRE_ALL") == "1":
            pytest.fail(f"required here, but unavailable: {reason}")
        pytest.skip(reason)

    return report
