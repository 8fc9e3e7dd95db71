"""`repo-builder measure`: how fast what was built is on this machine, and what it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console, ending
from repo_builder.base.errors import OutputError, disk_fix
from repo_builder.cli import _complete, _options

if TYPE_CHECKING:
    from repo_builder.tune.measure.compare import Comparison
    from repo_builder.tune.measure.rounds import Rounds
    from repo_builder.tune.measure.types import Measured, Subject

_PRECISE = 0.01
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    shell_complete=_complete.selections,
    help="Only these, e.g. 'digits@*'. Repeatable.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 65536),
    multiple=True,
    help="Rows of a request; repeatable. [default: 1, 8, 32]",
)
@_options.number_option(
    "--within", _options.FiniteRange(0.1, 50), 3.0, "Half of an interval, in percent."
)
@click.option("--precise", is_flag=True, help="As --within 1, and five times as long.")
@_options.number_option(
    "--seconds", _options.POSITIVE, 120.0, "When to stop, however wide the intervals are."
)
@_options.number_option(
    "--threads", click.IntRange(0, 1024), 0, "Of the runtime; 0 leaves it to that."
)
@click.option("--served", is_flag=True, help="Also ask what is published through a Triton.")
@_options.store_option
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OLD.json",
    help="Say what changed beyond noise since an earlier run.",
)
@click.option("--save", type=_FILE, metavar="FILE.json", help="Keep the run, for --against.")
@click.option("--markdown", type=_FILE, metavar="FILE.md", help="Also write it as Markdown.")
@click.option("--html", type=_FILE, metavar="FILE.html", help="Also write a page with plots.")
@_options.json_option
def command(
    *,
    build: Path,
    only: tuple[str, ...],
    batches: tuple[int, ...],
    within: float,
    precise: bool,
    seconds: float,
    threads: int,
    served: bool,
    store: Path | None,
    against: Path | None,
    save: Path | None,
    markdown: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Measure the models of BUILD (a folder that `build` wrote) on this machine.

    Every published model, and its fp32 beside it, in each runtime and batch size: rows a second,
    latencies, memory. Each is visited in turns by fresh processes until its interval is narrow.
    """
    _options.need_build_extra("measure")
    from repo_builder.tune import measure as room
    from repo_builder.tune.measure import compare

    ending.on_signals()
    before = room.read(against) if against else None
    request = room.Request(
        build=build,
        store=_options.store_root(store),
        only=only,
        batches=tuple(sorted(set(batches))) or room.BATCHES,
        within=_PRECISE if precise else within / 100,
        seconds=5 * seconds if precise else seconds,
        threads=threads,
        served=served,
    )
    found = room.measure(request, room.Shown(_Told().round))
    compared = compare.of(found, before) if before else None
    _write(save, markdown, html, found, compared)
    if as_json:
        plain = found.as_json()
        console.out_json({**plain, "against": compared.as_json()} if compared else plain)
    else:
        _print(found, compared)
    if not found.finished:
        raise KeyboardInterrupt


class _Told:
    """Says before each round how far it is."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def round(self, rounds: Rounds, wide: Sequence[Subject]) -> None:
        """One line a round."""
        from repo_builder.tune.measure.rounds import LEAST_ROUNDS

        spent = console.seconds(time.monotonic() - self._begun)
        number = rounds.done + 1
        more = f"of at least {LEAST_ROUNDS}" if number <= LEAST_ROUNDS else "for narrower intervals"
        console.say(f"round {number} {more}: {len(wide)} to visit, {spent} so far")


def _print(found: Measured, compared: Comparison | None) -> None:
    from repo_builder.tune.measure import show

    if found.cells:
        console.out(show.table(found))
    for name, text in show.machine(found):
        console.detail(f"{name}: {text}")
    for sentence in show.sentences(found):
        console.say(sentence)
    if compared is None:
        return
    if compared.other_machine:
        console.warn(f"{compared.other_machine}; what changed is not the models' alone")
    if rows := show.changes(compared):
        console.out("")
        console.out(console.table(show.CHANGED, rows, (1, 2, 3), wrap=(4,)))
    console.say(compared.sentence)
    for word, names in (("gone", compared.gone), ("new", compared.new)):
        if names:
            console.say(f"{word}: {'; '.join(names)}")


def _write(
    save: Path | None,
    markdown: Path | None,
    html: Path | None,
    found: Measured,
    compared: Comparison | None,
) -> None:
    import json

    from repo_builder.tune.measure import page, show

    texts: dict[Path, Any] = {}
    if save:
        texts[save] = json.dumps(found.as_json(), indent=1, sort_keys=True) + "\n"
    if markdown:
        texts[markdown] = show.markdown(found, compared)
    if html:
        texts[html] = page.page(found, compared)
    for file, text in texts.items():
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as failure:
            raise OutputError(f"{file}: {failure.strerror}; {disk_fix(failure)}") from None
        console.say(f"wrote {file}")
