"""`repo-builder cache`: look after the store."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.cli import _options


@click.group()
def command() -> None:
    """Look after the store of results."""


@command.command()
@_options.store_option
@_options.json_option
def du(store: Path | None, as_json: bool) -> None:
    """Show how much the store holds."""
    from repo_builder.run.store import Store

    root = _options.store_root(store)
    usage = Store(root).usage()
    if as_json:
        record = {"store": str(root), "entries": usage.entries, "files": usage.blobs}
        console.out_json({**record, "bytes": usage.size})
        return
    size = console.megabytes(usage.size)
    console.out(f"{root}: {usage.entries} entries, {usage.blobs} files, {size}")


@command.command()
@_options.store_option
def verify(store: Path | None) -> None:
    """Read everything; drop what is damaged, so that the next build makes it again."""
    from repo_builder.base.errors import StoreError
    from repo_builder.run.store import Store

    root = _options.store_root(store)
    broken = Store(root).verify()
    if broken:
        listed = ", ".join(broken)
        raise StoreError(f"{len(broken)} damaged, dropped: {listed}; build again to make them anew")
    console.out(f"{root}: all is whole")


@command.command()
@_options.store_option
def gc(store: Path | None) -> None:
    """Remove what no last good build needs."""
    from repo_builder.run.store import Store

    removed = Store(_options.store_root(store)).collect()
    size = console.megabytes(removed.size)
    console.out(f"removed {removed.entries} entries, {removed.blobs} files, {size}")
