"""What the end-to-end tests share: a genuine Triton, started here and gone afterwards."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from triton_models import StartTriton
from wheel_kit import env, install, packages
from workplace import Workplace

from repo_builder import serve
from repo_builder.base.errors import MissingExtra


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


@dataclass
class Pair:
    """Two servers with the models of client_models.py, and the logs that these write."""

    edge: serve.Triton
    cloud: serve.Triton
    edge_log: Path
    cloud_log: Path


@pytest.fixture(scope="module")
def pair(module_triton: StartTriton, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A genuine Triton for the edge and one for the cloud."""
    import client_models

    folder = tmp_path_factory.mktemp("pair")
    edge_log, cloud_log = folder / "edge.log", folder / "cloud.log"
    client_models.echo(folder / "edge", log=edge_log)
    client_models.echo(folder / "edge", "slow", wait=5.0, log=edge_log)
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 1 } }"
    client_models.echo(folder / "edge", "full", wait=0.3, max_rows=1, extra=queue)
    batching = {"max_rows": 8, "extra": "dynamic_batching { }"}
    client_models.echo(folder / "edge", "batching", log=edge_log, **batching)
    client_models.echo(folder / "cloud", "batching", who=1, log=cloud_log, **batching)
    client_models.big(folder / "edge")
    behind = {**client_models.POLICY, "cloud_model": "echo-large"}
    client_models.echo(folder / "edge", "little", policy=behind)
    client_models.echo(folder / "cloud", "echo-large", who=1)
    client_models.echo(folder / "cloud", who=1, log=cloud_log)
    return Pair(
        module_triton(folder / "edge", models=["*"]),
        module_triton(folder / "cloud", models=["*"]),
        edge_log,
        cloud_log,
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """What a build of all examples for the CPU made; not to be changed."""
    place = Workplace(tmp_path_factory.mktemp("built"))
    place.build()
    return place


@pytest.fixture
def place(built: Workplace, tmp_path: Path) -> Workplace:
    """A copy of what was built, to be changed; paths enter no key, so all is cached."""
    copy = Workplace(tmp_path)
    shutil.copytree(built.store, copy.store)
    shutil.copytree(built.out, copy.out, symlinks=True)
    return copy


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]) -> Path:
    try:
        importlib.metadata.version("hatchling")
    except importlib.metadata.PackageNotFoundError:
        unavailable("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", folder, Path(__file__).parents[2]],
        check=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and beside it all packages that are installed here.

    A .pth file inside a folder that a .pth file names is not read, so an editable install of the
    checkout stays out.
    """
    environment = tmp_path_factory.mktemp("full") / "venv"
    install(environment, wheel)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages(environment) / "others.pth").write_text("\n".join(sorted(here)))
    where = "import repo_builder; print(repo_builder.__file__)"
    python = environment / "bin" / "python"
    said = subprocess.run(
        [python, "-c", where], capture_output=True, text=True, check=True, cwd="/", env=env()
    )
    assert Path(said.stdout.strip()).is_relative_to(environment)
    return environment
