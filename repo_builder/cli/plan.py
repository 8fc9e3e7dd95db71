"""`repo-builder plan`: what a build would do, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repo_builder.base import console
from repo_builder.cli import _options

if TYPE_CHECKING:
    from repo_builder.build.preview import Line


@click.command()
@_options.specs_argument
@_options.selection_options
@_options.store_option
@_options.json_option
def command(
    specs: tuple[Path, ...],
    only: tuple[str, ...],
    on: tuple[str, ...],
    targets_dir: Path | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Show which steps a build would run, which are cached, and why.

    Nothing is built or written but the memory of file digests.
    """
    _options.need_build_extra("plan")
    from repo_builder.build import Request
    from repo_builder.build.preview import preview

    request = Request(
        specs=specs,
        out=Path(),
        store=_options.store_root(store),
        only=only,
        targets=on,
        targets_dir=targets_dir,
    )
    lines = preview(request)
    if as_json:
        console.out_json([line.as_json() for line in lines])
        return
    rows = [(line.id, line.step, _would(line), line.why) for line in lines]
    console.out(console.table(("model@target", "step", "would", "why"), rows))
    waiting = {line.key for line in lines if not line.cached and not line.refused}
    console.say(f"{len(waiting)} steps to run" if waiting else "nothing to do")


def _would(line: Line) -> str:
    if line.refused:
        return "refuse"
    return "cached" if line.cached else "run"
