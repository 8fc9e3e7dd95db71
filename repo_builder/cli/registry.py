"""`repo-builder registry`: look after a registry of releases."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.cli import _options


@click.group()
def command() -> None:
    """Look after a registry of releases, which is a folder of files."""


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a registry in FOLDER; nothing happens where it is one."""
    from repo_builder.release import registry

    registry.init(folder)
    console.out(str(folder))


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_options.json_option
def verify(folder: Path, as_json: bool) -> None:
    """Read every file of every release; say what is damaged and which releases need it."""
    from repo_builder.base.errors import Problem, StoreError
    from repo_builder.release.registry import Registry

    damaged = Registry(folder).verify()
    if as_json:
        console.out_json([vars(one) for one in damaged])
    if damaged:
        raise StoreError(
            f"{folder}: {len(damaged)} files are missing or damaged",
            [
                Problem(
                    f"{one.what}, needed by {', '.join(one.needed_by)}",
                    "delete it and create the release again from its build",
                    field=f"blobs/sha256/{one.sha256[:2]}/{one.sha256}",
                )
                for one in damaged
            ],
        )
    if not as_json:
        console.out(f"{folder}: all is whole")
