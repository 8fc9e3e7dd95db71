"""`repo-builder examples`: the example specs and models, to try and to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from repo_builder.base import console, resources
from repo_builder.base.errors import OutputError, disk_fix


@click.group()
def command() -> None:
    """Copy the example specs and models."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def copy(folder: Path) -> None:
    """Copy the example specs, their models and their data to DIR, which must be new or empty."""
    try:
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{folder}: is not empty; name a new folder")
        hidden = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(resources.folder("model_specs"), folder, dirs_exist_ok=True, ignore=hidden)
    except (OSError, shutil.Error) as failure:
        what = getattr(failure, "strerror", None) or str(failure)
        fix = disk_fix(failure) if isinstance(failure, OSError) else "check the disk"
        raise OutputError(f"{folder}: {what}; {fix}") from failure
    console.out(str(folder))
    console.say(f"build them: repo-builder build {folder}")
