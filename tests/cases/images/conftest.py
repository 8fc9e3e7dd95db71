"""What the tests of images share: an engine with the base image, images on it, containers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import image_kit as kit
import pytest
from containers import Running, start
from image_kit import ROOT, World, repository
from page_settings import BUILD, SETTINGS, Examples
from terminal import Terminal

# A base laid out as NVIDIA lays out its own images, which cannot be had here: the genuine server,
# its Python backend and numpy, and no CUDA.
STAND_IN = """
FROM {base}
COPY wheels/ /wheels/
RUN PYTHONPATH=/wheels/{pip} python3 -m pip install --quiet --root-user-action=ignore --no-index \\
    --no-deps --target /usr/local/lib/python3.11/dist-packages /wheels/numpy-*.whl && \\
    PYTHONPATH=/wheels/{pip} python3 -m pip install --quiet --root-user-action=ignore --no-index \\
    --no-deps --target /site /wheels/nvidia_pytriton-*.whl && \\
    cp -a /site/pytriton/tritonserver /opt/tritonserver && \\
    cp -a /site/nvidia_pytriton.libs /opt/tritonserver/lib && \\
    cp /opt/tritonserver/python_backend_stubs/3.11/* /opt/tritonserver/backends/python/ && \\
    rm -rf /site /wheels
"""


@pytest.fixture(scope="session")
def world(
    unavailable: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The engine that answers here, with the base image made of Debian's packages."""
    import docker
    import docker.errors

    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except docker.errors.DockerException as failure:
        unavailable(f"no container engine: {failure}")
    if not kit.have_registry():
        unavailable("docker-registry is not installed")
    made = subprocess.run([ROOT / ".ci/base-image"], capture_output=True, text=True, check=False)
    if made.returncode:
        unavailable(f"no base image: {made.stderr.strip()[-300:]}")
    folder = tmp_path_factory.mktemp("images")
    yield World(client, made.stdout.strip(), folder, kit.environment(folder))
    for image in client.images.list(filters={"label": "io.repo-builder.target"}):
        if any("repo-builder-test" in tag or tag.startswith("localhost:") for tag in image.tags):
            client.images.remove(image.id, force=True)
    client.close()


@pytest.fixture(scope="session")
def cpu_repository(world: World) -> Path:
    """The repository of the CPU image, and a key to sign it with."""
    world.cli("keys", "new", "ci")
    return repository(world.folder / "build")


@pytest.fixture
def cpu(world: World, cpu_repository: Path) -> tuple[str, Path]:
    """The signed CPU image and its repository; built once, loaded again where a test drops it."""
    name = ("--key", "ci", "--name", "repo-builder-test/cpu:1")
    return world.build(cpu_repository, *name), cpu_repository


@pytest.fixture
def run(world: World) -> Iterator[Callable[..., Running]]:
    """`run(image, **options)` starts a container that is gone after the test."""
    running: list[Running] = []

    def begin(image: str, **options: Any) -> Running:
        running.append(start(world, image, **options))
        return running[-1]

    yield begin
    for one in running:
        one.container.remove(force=True)


@pytest.fixture(scope="session")
def ngc(world: World, cpu_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stand-in for NVIDIA's images."""
    world.build(cpu_repository)  # so that the wheels are here
    context = tmp_path_factory.mktemp("ngc")
    wheels = Path(world.env["REPO_BUILDER_IMAGE_CACHE"]).glob("wheels/*/*.whl")
    (context / "wheels").mkdir()
    for wheel in (path for path in wheels if "aarch64" not in path.name):
        shutil.copy(wheel, context / "wheels")
    pip = next(path.name for path in (context / "wheels").glob("pip-*.whl"))
    (context / "Dockerfile").write_text(STAND_IN.format(base=world.base, pip=pip))
    name = "repo-builder-test/ngc:1"
    world.client.images.build(path=str(context), tag=name, network_mode="none", forcerm=True)
    return name


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that all terminals share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def examples(
    full: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Examples]:
    """All examples, built for every tier as README says, into that store."""
    opened = Terminal(tmp_path_factory.mktemp("readme"), full, cache, {})
    SETTINGS["README.md"].begin(opened)
    yield Examples(opened, cache, opened.run(BUILD))
    opened.close()
