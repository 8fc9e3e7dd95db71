"""`repo-builder sensitivity`: which layers int8 harms, and what each would save."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console, ending
from repo_builder.base.errors import BuildFailed, OutputError, Problem, UsageError, disk_fix
from repo_builder.base.progress import Steps
from repo_builder.cli import _options
from repo_builder.cli._progress import Progress

if TYPE_CHECKING:
    from repo_builder.build.sensitivity import Ranking

_FORMS = {"int8": "int8", "weights": "int8 weights", "float": "float"}
_COLOURS = {"int8": "#1f77b4", "int8 weights": "#ff7f0e", "float": "#d62728"}
_DRAWN = 40
"""Layers that a plot shows, the worst of them."""


@click.command()
@_options.specs_argument
@_options.selection_options
@_options.store_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Draw the errors by layer, for one model@target.",
)
@_options.json_option
def command(
    specs: tuple[Path, ...],
    only: tuple[str, ...],
    on: tuple[str, ...],
    targets_dir: Path | None,
    store: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Rank the layers of models by what int8 costs in them, the worst first.

    Each layer is rounded to 8 bits alone, as the target would, on the calibration rows of its
    SPEC; no labels are needed. The error is the norm of the difference over the norm of the
    answer in fp32. The last column is what `keep_float: auto` would make of the layer.
    """
    _options.need_build_extra("sensitivity")
    from repo_builder.build import Request
    from repo_builder.build.sensitivity import rank

    ending.on_signals()
    request = Request(
        specs=specs,
        out=Path(),
        store=_options.store_root(store),
        only=only,
        targets=on,
        targets_dir=targets_dir,
        jobs=len(os.sched_getaffinity(0)),
    )
    with Steps() as shown:
        found = rank(request, Progress(shown, request.store))
    if plot is not None:
        _draw(plot, found)
    if as_json:
        console.out_json([ranking.as_json() for ranking in found])
    else:
        for number, ranking in enumerate(found):
            if ranking.facts is not None:
                _print(ranking.id, ranking.facts, first=number == 0)
    if bad := [ranking for ranking in found if ranking.error is not None]:
        problems = [Problem(str(ranking.error), field=ranking.id) for ranking in bad]
        raise BuildFailed(f"{len(bad)} of {len(found)} not ranked:", problems)


def _print(name: str, facts: Mapping[str, Any], *, first: bool) -> None:
    if not first:
        console.out("")
    console.out(name)
    if facts["layers"]:
        rows = [
            (
                layer["name"],
                layer["kind"],
                f"{layer['error']:.2g}",
                console.megabytes(layer["saved"]) if layer["saved"] else "-",
                f"{layer['share']:.1%}",
                _FORMS[layer["form"]],
            )
            for layer in facts["layers"]
        ]
        header = ("layer", "type", "error", "saves", "work", "auto")
        colours = {"float": "red", "int8 weights": "yellow"}
        text = console.table(header, rows, (2, 3, 4), drop=(1, 4, 3), wrap=(5,), colours=colours)
        console.out(text)
    console.say(f"{name}: {_summary(facts)}")


def _summary(facts: Mapping[str, Any]) -> str:
    """What int8 costs in all, and what mixed precision makes of it."""
    if facts["source"]:
        return f"its source came quantized ({facts['source']}) and is not ranked"
    layers = facts["layers"]
    if not layers:
        return "int8 has nothing to quantize here, no convolution or matrix product"
    kept = [layer for layer in layers if layer["form"] != "int8"]
    whole = f"all {len(layers)} layers in int8 are off by {facts['whole']:.2g} of the norm"
    if not kept:
        return f"{whole}; up to {facts['max_error']:g} `keep_float` changes nothing"
    return (
        f"{whole}; with {len(kept)} of them in floating point {facts['error']:.2g}, "
        f"{facts['saved']:.0%} of the bytes saved and {facts['share']:.0%} of the work in int8"
    )


def _draw(plot: Path, found: list[Ranking]) -> None:
    from repo_builder.base.bars import Bar, bars

    if len(found) != 1:
        ids = ", ".join(ranking.id for ranking in found)
        raise UsageError(f"--plot draws one model@target, not {ids}; choose it with --only")
    (ranking,) = found
    if not ranking.facts or not ranking.facts["layers"]:
        return
    layers = ranking.facts["layers"][:_DRAWN]
    rows = [
        Bar(layer["name"], layer["error"], f"{layer['error']:.2g}", _FORMS[layer["form"]])
        for layer in layers
    ]
    more = len(ranking.facts["layers"]) - len(layers)
    title = f"{ranking.id}: relative error with one layer in int8"
    subtitle = _summary(ranking.facts) + (f"; {more} milder layers not shown" if more else "")
    try:
        plot.write_text(bars(title, subtitle, rows, _COLOURS), encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"{plot}: {failure.strerror}; {disk_fix(failure)}") from None
    console.say(f"plot: {plot}")
