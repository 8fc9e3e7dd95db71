"""The shell steps of .github/workflows/release.yml, as they stand there, and what they make.

GitHub's own parts (checkout, login, provenance) are not here; its registry is a local one, and pip
takes what is installed already.
"""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import image_kit as kit
import pytest
import yaml
from image_kit import ROOT, World
from page_settings import Examples, checkout
from terminal import Terminal, engine

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
VALUES = {
    "${{ github.ref_name }}": "v1.2.3",
    "${{ github.repository_owner }}": "Some-Owner",
    "${{ matrix.target }}": "cpu",
}


def do(opened: Terminal, job: str, name: str) -> None:
    """Run a step as GitHub does: bash, ended by the first failure."""
    (step,) = (s for s in WORKFLOW["jobs"][job]["steps"] if s.get("name") == name)
    values = {key: VALUES[text] for key, text in step.get("env", {}).items()}
    opened.environment.update(values)
    opened.run("set -e\n" + step["run"])


@pytest.fixture
def runner(full: Path, tmp_path: Path, examples: Examples) -> Terminal:
    """A machine with a checkout of a commit, and what builds made before in its cache."""
    opened = Terminal(tmp_path, full, examples.cache, {})
    checkout(opened)
    commit = "git -c user.name=test -c user.email=test@localhost commit --quiet --message all"
    opened.run(f"git init --quiet . && git add . && {commit}")
    return opened


def test_the_packages(runner: Terminal) -> None:
    do(runner, "packages", "Build wheel and sdist")
    (wheel,), (sdist,) = ((runner.place / "dist").glob(f"*.{end}") for end in ("whl", "tar.gz"))
    do(runner, "packages", "The wheel builds the examples in an empty folder")
    # The sdist is whole: it makes the same wheel.
    with tarfile.open(sdist) as archive:
        archive.extractall(runner.folder / "sdist", filter="data")
    (source,) = (runner.folder / "sdist").iterdir()
    runner.run(f"pip wheel --no-deps --wheel-dir again {source}")
    (again,) = (runner.place / "again").iterdir()
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def test_the_images(runner: Terminal, world: World) -> None:
    outputs = runner.folder / "outputs"
    runner.environment["GITHUB_OUTPUT"] = str(outputs)
    do(runner, "images", "Install as the lock file says")
    with engine(world, runner, "ghcr.io"):
        do(runner, "images", "Build the examples and their image")
        do(runner, "images", "Push")
        said: dict[str, Any] = dict(line.split("=") for line in outputs.read_text().splitlines())
        address, _, name = said["name"].partition("/")
        assert name == "some-owner/repo-builder-cpu"
        manifest = kit.registry_json(address, f"/v2/{name}/manifests/{said['digest']}")
        assert manifest["config"]["digest"].startswith("sha256:")
