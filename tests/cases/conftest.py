"""What the end-to-end tests share: a genuine Triton, started here and gone afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from triton_models import StartTriton

from repo_builder import serve
from repo_builder.errors import MissingExtra


@contextlib.contextmanager
def _starter(unavailable: Callable[[str], NoReturn]) -> Iterator[StartTriton]:
    servers: list[serve.Triton] = []

    def start(models_dir: Path, **options: Any) -> serve.Triton:
        try:
            server = serve.Triton(models_dir, timeout_s=90, **options)
        except MissingExtra as missing:
            unavailable(str(missing))
        servers.append(server.__enter__())
        return server

    try:
        yield start
    finally:
        # Nothing is in flight any more, so there is nothing to drain.
        for server in servers:
            server.kill()


@pytest.fixture
def triton(unavailable: Callable[[str], NoReturn]) -> Iterator[StartTriton]:
    """`triton(models_dir, **options)` starts a serve.Triton that lives until the test ends."""
    with _starter(unavailable) as start:
        yield start


@pytest.fixture(scope="module")
def module_triton(unavailable: Callable[[str], NoReturn]) -> Iterator[StartTriton]:
    """As `triton`, for a server that all tests of a module share."""
    with _starter(unavailable) as start:
        yield start
