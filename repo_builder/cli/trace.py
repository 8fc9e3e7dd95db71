"""`repo-builder trace`: where a request to a served model spends its time."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repo_builder.base import console
from repo_builder.base.errors import OutputError, disk_fix
from repo_builder.cli import _complete, _options

if TYPE_CHECKING:
    from repo_builder.tune.trace.ask import Traced


@click.command()
@click.argument("url")
@click.option("--model", required=True, shell_complete=_complete.served, help="The model to ask.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="What to send, as `infer` takes it [default: random values].",
)
@_options.number_option("--requests", click.IntRange(1, 10_000), 20, "How many, one by one.")
@_options.number_option("--timeout", _options.POSITIVE, 30.0, "Deadline of a call, in seconds.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Also write a page.",
)
@_options.json_option
def command(
    *,
    url: str,
    model: str,
    inputs: tuple[str, ...],
    requests: int,
    timeout: float,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show where the slowest request to the Triton at URL spent its time, beside the median one.

    \b
    repo-builder trace localhost:8001 --model find-shapes --input photo.png

    From Triton's trace file where it was started with one on this machine, else from its
    statistics, which anybody else who asks it meanwhile disturbs.
    """
    from repo_builder.cli.infer import Model
    from repo_builder.tune.trace import ask, show

    with Model(model, "", url, None, timeout) as asked:
        tensors = asked.tensors(inputs) if inputs else asked.made_up()
        found = ask.traced(url, model, lambda: asked.infer(tensors), requests)
    if html is not None:
        _write(html, found)
    if as_json:
        shown = {"slowest": found.slowest.number, "median": found.median.number}
        console.out_json({**asdict(found), **shown})
        return
    width = max(40, min(shutil.get_terminal_size().columns, 120))
    for name, one in (("slowest", found.slowest), ("median", found.median)):
        console.out(f"{name}: request {one.number} of {requests}, {one.total_ms:.3f} ms")
        console.out(show.waterfall(one, width))
    if found.why_statistics:
        console.say(
            f"{found.why_statistics}: lengths are from Triton's statistics, not their places"
        )


def _write(file: Path, found: Traced) -> None:
    _options.need_build_extra("--html")
    from repo_builder.tune.trace import page

    try:
        file.write_text(page.page(found), encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"{file}: {failure.strerror}; {disk_fix(failure)}") from None
