"""`repo-builder release`: make, compare and promote releases of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from repo_builder.base import console
from repo_builder.cli import _options

if TYPE_CHECKING:
    from repo_builder.release.registry import Registry

_registry_option = click.option(
    "--registry",
    "root",
    required=True,
    type=click.Path(path_type=Path),
    envvar="REPO_BUILDER_REGISTRY",
    help="The registry's folder.  [env: REPO_BUILDER_REGISTRY]",
)


@click.group()
def command() -> None:
    """Make, compare and promote releases of models."""


@command.command()
@click.argument("build", type=click.Path(path_type=Path))
@_registry_option
@click.option("--channel", default="candidate", show_default=True, help="Who is offered it.")
@click.option("--only", multiple=True, metavar="NAME", help="Release this model only; repeatable.")
@click.option("--epoch", type=click.IntRange(0), help="Security epoch; default: as before.")
@click.option(
    "--changelog",
    type=click.File(encoding="utf-8"),
    help="Text on what changed; default: made from the differences.",
)
@click.option(
    "--deltas",
    type=click.IntRange(0, 100),
    default=3,
    show_default=True,
    help="From how many versions before deltas are made.",
)
@_options.json_option
def create(
    build: Path,
    root: Path,
    channel: str,
    only: tuple[str, ...],
    epoch: int | None,
    changelog: TextIO | None,
    deltas: int,
    as_json: bool,
) -> None:
    """Release the models of BUILD, a folder that `repo-builder build` wrote."""
    from repo_builder.base.errors import UsageError
    from repo_builder.release import deltas as of_releases
    from repo_builder.release.create import create as make

    try:
        notes = changelog.read() if changelog else None
    except UnicodeDecodeError:
        raise UsageError("--changelog: the file must be UTF-8 text") from None
    registry = _open(root)
    made = make(build, registry, channel, only, epoch, notes)
    added = {name: of_releases.add(registry, name, deltas) for name in made}
    if as_json:
        console.out_json({"channel": channel, "releases": made})
        return
    for name, new in made.items():
        console.out(f"{name} {'released' if new else 'was released before'}, in {channel}")
        for delta in added[name]:
            share = delta.size / delta.whole if delta.whole else 0.0
            what = (
                f"  {delta.target} {delta.file}: delta from {delta.base}, {share:.1%} of the file"
            )
            console.out(what)


@command.command("list")
@_registry_option
@_options.json_option
def list_(root: Path, as_json: bool) -> None:
    """List all releases, and the channels that offer them."""
    registry = _open(root)
    offers = registry.channels()
    rows = []
    for name in registry.names():
        for version in registry.versions(name):
            release = registry.release(f"{name}:{version}")
            channels = [c for c, models in offers.items() if models.get(name) == version]
            rows.append(
                {
                    "release": release.id,
                    "channels": channels,
                    "targets": sorted(release.targets),
                    "yanked": registry.yanked(release.id),
                }
            )
    if as_json:
        console.out_json(rows)
        return
    cells = [
        (
            str(row["release"]),
            "yanked" if row["yanked"] else ", ".join(row["channels"] or ()),
            ", ".join(row["targets"] or ()),
        )
        for row in rows
    ]
    console.out(console.table(("release", "channels", "targets"), cells, wrap=(2,)))


@command.command()
@click.argument("release")
@_registry_option
@_options.json_option
def show(release: str, root: Path, as_json: bool) -> None:
    """Show RELEASE, such as digits:1.3.0."""
    import json

    registry = _open(root)
    found = registry.release(release)
    reason = registry.yanked(release)
    if as_json:
        console.out_json({**json.loads(found.text()), "yanked": reason})
        return
    yanked = f", yanked: {reason}" if reason else ""
    console.out(f"{found.id}, epoch {found.epoch}, commit {found.commit or 'unknown'}{yanked}")
    console.out(found.changelog)
    cells = [
        (
            target,
            one.precision,
            console.megabytes(one.size),
            f"{one.score['built']:.4g} {one.score['metric']}" if one.score else "",
            f"{one.latency['p50_ms']:.3g}" if one.latency else "",
            one.level,
        )
        for target, one in sorted(found.targets.items())
    ]
    header = ("target", "precision", "size", "score", "p50 ms", "level")
    console.out(console.table(header, cells, right=(2, 4)))


@command.command()
@click.argument("before")
@click.argument("after")
@_registry_option
@_options.json_option
def diff(before: str, after: str, root: Path, as_json: bool) -> None:
    """Show what a user notices between the releases BEFORE and AFTER."""
    from repo_builder.release import diff as compare

    registry = _open(root)
    changes = compare.diff(registry.release(before), registry.release(after))
    if as_json:
        console.out_json([vars(change) for change in changes])
        return
    for change in changes:
        console.out(str(change))
    if not changes:
        console.say("a user notices no difference")


@command.command()
@click.argument("release")
@click.option("--to", "channel", required=True, help="The channel.")
@_registry_option
def promote(release: str, channel: str, root: Path) -> None:
    """Let a channel offer RELEASE, also where it is older than what it offers now."""
    _open(root).promote(release, channel)
    console.out(f"{release} in {channel}")


@command.command()
@click.argument("release")
@click.option("--reason", required=True, help="Why it must not be used.")
@_registry_option
def yank(release: str, reason: str, root: Path) -> None:
    """Take RELEASE off its channels; its number can never be used again."""
    left = _open(root).yank(release, reason)
    for channel in left:
        name = release.partition(":")[0]
        console.warn(f"{channel} offers no {name} now; promote another version")
    console.out(f"{release} yanked")


@command.command()
@click.argument("release")
@_registry_option
def verify(release: str, root: Path) -> None:
    """Read every file of RELEASE and compare it with its digest."""
    from repo_builder.base.errors import Problem, StoreError

    damaged = _open(root).verify([release])
    if damaged:
        problems = [Problem(one.what, field=f"blob {one.sha256}") for one in damaged]
        raise StoreError(f"{release}: files are missing or damaged", problems)
    console.out(f"{release}: all is whole")


def _open(root: Path) -> Registry:
    from repo_builder.release.registry import Registry

    return Registry(root)
