"""`repo-builder pins`: base images by digest."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.cli import _options


@click.group()
def command() -> None:
    """Show what images are made of, and pin base images by digest."""


@command.command("list")
@click.option(
    "--pins", "path", type=click.Path(path_type=Path), help="Pins file. [default: ./pins.yaml]"
)
@_options.json_option
def list_(path: Path | None, as_json: bool) -> None:
    """List base images and package versions per family."""
    _options.need_build_extra("pins")
    from repo_builder.images import pins

    table = pins.load(path)
    if as_json:
        console.out_json(table.model_dump())
        return
    rows = [
        (
            name,
            family.base or "yours",
            ", ".join(f"{p} {table.packages[p].version}" for p in family.packages),
        )
        for name, family in table.families.items()
    ]
    console.out(console.table(("family", "base", "packages"), rows, wrap=(1, 2)))


@command.command()
@click.argument("families", nargs=-1)
@click.option(
    "--pins", "path", type=click.Path(path_type=Path), help="Pins file. [default: ./pins.yaml]"
)
def update(families: tuple[str, ...], path: Path | None) -> None:
    """Ask the registries for the digests that base images have now, and pin them.

    Without FAMILIES: all of them. The result goes to the pins file, which
    belongs into version control.
    """
    _options.need_build_extra("pins")
    from repo_builder.base.errors import ImageError, UsageError, did_you_mean
    from repo_builder.images import engine, pins

    path = path or pins.OWN
    table = pins.load(path if path.exists() else None)
    for name in families:
        if name not in table.families:
            raise UsageError(f"no family '{name}'; {did_you_mean(name, table.families)}")
    running = engine.connect()
    bases, failures = {}, []
    for name in families or [name for name, family in table.families.items() if family.base]:
        old = table.families[name].base
        tag = old.partition("@")[0]
        try:
            digest = running.registry_digest(tag)
        except ImageError as failure:
            failures.append(f"{name}: {failure}")
            continue
        if digest is None:
            failures.append(f"{name}: the registry has no {tag}")
            continue
        bases[name] = f"{tag}@{digest}"
        console.say(f"{name}: {'unchanged' if bases[name] == old else bases[name]}")
    if bases:
        pins.write_bases(path, bases)
        console.out(str(path))
    if failures:
        raise ImageError("not pinned, left as they were: " + "; ".join(failures))
