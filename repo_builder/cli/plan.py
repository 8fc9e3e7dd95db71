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
@click.option("--all", "show_all", is_flag=True, help="Also show what is cached.")
@_options.json_option
def command(
    specs: tuple[Path, ...],
    only: tuple[str, ...],
    on: tuple[str, ...],
    targets_dir: Path | None,
    store: Path | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """Show which steps a build would run, and why.

    Nothing is built or written but the memory of file digests.
    """
    _options.need_build_extra("plan")
    from repo_builder.build import Request, tuned
    from repo_builder.build.prepare import read
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
    shown = [line for line in lines if show_all or not line.cached]
    if shown:
        rows = [(line.id, line.step, _would(line), line.why) for line in shown]
        header = ("model@target", "step", "would", "why")
        text = console.table(header, rows, wrap=(1, 3), colours=_COLOURS)
        console.out(text)
    for tuning in tuned.told(read(request)[0]):
        console.say(tuning)
    waiting = {line.key for line in lines if not line.cached and not line.refused}
    what = f"{len(waiting)} steps to run" if waiting else "nothing to do"
    models = len({line.id.partition("@")[0] for line in lines})
    hidden = "" if len(shown) == len(lines) else "; --all lists what is cached too"
    console.say(f"{what} ({models} models{hidden})")


_COLOURS = {"run": "cyan", "cached": "dim", "refuse": "red"}


def _would(line: Line) -> str:
    if line.refused:
        return "refuse"
    return "cached" if line.cached else "run"
