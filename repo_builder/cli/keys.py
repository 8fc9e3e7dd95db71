"""`repo-builder keys`: keys that sign, and signing a built folder."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.cli import _options


@click.group()
def command() -> None:
    """Make and list signing keys; sign a built repository.

    Keys are in $REPO_BUILDER_KEYS, or ~/.config/repo-builder/keys.
    """


@command.command()
@click.argument("name")
def new(name: str) -> None:
    """Make the Ed25519 key NAME; give devices its .pub file, and nobody its .key file."""
    from repo_builder.images import trust

    key = trust.new_key(name)
    console.say(f"private: {key.private} (keep it secret, keep a copy)")
    console.out(str(key.public))


@command.command("list")
@_options.json_option
def list_(as_json: bool) -> None:
    """List the keys here: their names, ids, and whether they can sign."""
    from repo_builder.images import trust
    from repo_builder.images.inside import check

    rows = [
        {"name": path.stem, "id": key, "signs": path.with_suffix(".key").is_file()}
        for path in sorted(trust.keys_folder().glob("*.pub"))
        for key in check.read_key(path)
    ]
    if as_json:
        console.out_json(rows)
        return
    cells = [(str(r["name"]), str(r["id"]), "yes" if r["signs"] else "no") for r in rows]
    console.out(console.table(("name", "id", "signs"), cells, wrap=(1,)))


@command.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
def sign(name: str, folder: Path) -> None:
    """Sign FOLDER (build/<target>) with the key NAME, for verify on a device."""
    from repo_builder.images import manifest, trust

    made = manifest.read(folder)
    path = folder / "manifest.json.sig"
    path.write_bytes(trust.key(name).sign(made.text))
    console.out(str(path))
