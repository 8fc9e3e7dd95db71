"""Environments with the package from its wheel, beside the packages that are installed here."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path


def install(environment: Path, wheel: Path) -> None:
    venv.create(environment, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install",
         "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
    )  # fmt: skip


def packages(environment: Path) -> Path:
    (found,) = (environment / "lib").glob("python*/site-packages")
    return found


def env() -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**ours, "REPO_BUILDER_KEYS": "keys"}
