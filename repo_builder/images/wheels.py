"""Fetches the wheels that images contain, by hash, once; a build itself needs no network."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from repo_builder.base import console, digest
from repo_builder.base.errors import ImageError
from repo_builder.images.pins import Package

# The newest manylinux that the image's base must have (glibc 2.35), and those below it.
_MANYLINUX = ("2_17", "2_27", "2_28", "2_31", "2_34", "2_35")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def fetch(
    names: Sequence[str],
    packages: Mapping[str, Package],
    python: str,
    architecture: str,
    cache: Path,
) -> list[Path]:
    """The wheels of `names` for an OCI architecture, from `cache` or through pip.

    Raises ImageError where pip cannot get one, or gets other bytes than the pinned ones.
    """
    found: list[Path] = []
    for name in names:
        package = packages[name]
        if architecture not in package.sha256:
            raise ImageError(f"{name} {package.version} is not pinned for {architecture}")
        sha256 = package.sha256[architecture]
        folder = cache / "wheels" / sha256
        wheels = sorted(folder.glob("*.whl"))
        if not wheels or digest.of_file(wheels[0]) != sha256:
            console.say(f"fetching {name} {package.version} ({architecture})")
            _download(
                f"{name}=={package.version} --hash=sha256:{sha256}", python, architecture, folder
            )
            wheels = sorted(folder.glob("*.whl"))
        found.append(wheels[0])
    return found


def _download(requirement: str, python: str, architecture: str, folder: Path) -> None:
    """Download one wheel into `folder`, which appears only when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        wanted = Path(draft, "requirements.txt")
        wanted.write_text(requirement + "\n", encoding="utf-8")
        platforms = [f"manylinux_{version}_{_MACHINES[architecture]}" for version in _MANYLINUX]
        platforms.append(f"manylinux2014_{_MACHINES[architecture]}")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
            *("--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"),
            *("--python-version", python, "--dest", f"{draft}/wheel", "--requirement", str(wanted)),
            *(f"--platform={platform}" for platform in platforms),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            if "No module named pip" in done.stderr:
                raise ImageError(f"{sys.executable} has no pip to fetch wheels with; add it")
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = lines[0].removeprefix("ERROR: ") if lines else done.stderr.strip()[-200:]
            raise ImageError(f"{requirement.partition(' ')[0]} cannot be fetched: {reason}")
        if folder.exists():  # a damaged one
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        Path(draft, "wheel").rename(folder)
