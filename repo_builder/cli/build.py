"""`repo-builder build`: the main job."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console, ending
from repo_builder.base.progress import Steps
from repo_builder.cli import _images, _options
from repo_builder.cli._progress import Progress

if TYPE_CHECKING:
    from repo_builder.build.report import Report, Row


@click.command()
@_options.specs_argument
@_options.selection_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Folder for the repositories and the report.",
)
@_options.store_option
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1, 256),
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="cores",
    help="Steps that run at the same time.",
)
@click.option(
    "--keep-going/--fail-fast",
    default=True,
    show_default=True,
    help="After a failure, go on with what does not depend on it.",
)
@click.option(
    "--keep",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    metavar="N",
    help="Versions of each model to serve: the new one, and earlier ones with the same tensors.",
)
@click.option(
    "--together",
    multiple=True,
    metavar="NAME=TARGET,...",
    help="Also one repository OUT/NAME for several targets; serve it with --model-config-name.",
)
@click.option(
    "--scheduler",
    default="",
    metavar="URL",
    help="Run the steps on a Dask cluster, e.g. tcp://host:8786, instead of here.",
)
@click.option(
    "--images/--no-images",
    default=None,
    envvar="REPO_BUILDER_IMAGES",
    help="Make a container image for each target. [default: where an engine answers]",
)
@click.option(
    "--measure-again",
    is_flag=True,
    help="Measure the latencies again; nothing else runs for it.",
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the report as Markdown, for a pull request.",
)
@click.option("--all", "show_all", is_flag=True, help="Also show what did not change.")
@_options.json_option
def command(
    *,
    specs: tuple[Path, ...],
    only: tuple[str, ...],
    on: tuple[str, ...],
    targets_dir: Path | None,
    out: Path,
    store: Path | None,
    jobs: int,
    keep_going: bool,
    keep: int,
    together: tuple[str, ...],
    scheduler: str,
    images: bool | None,
    measure_again: bool,
    markdown: Path | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """Optimize, compile and verify models, and assemble Triton repositories.

    SPECS are spec files, or folders with spec files in them. The result is
    OUT/<target>/models, OUT/<target>/manifest.json, OUT/report.json and
    OUT/report.html. What did not change is not built again.
    """
    _options.need_build_extra("build")
    from repo_builder.build import Request, build
    from repo_builder.build.report import write_markdown

    ending.on_signals()
    request = Request(
        specs=specs,
        out=out,
        store=_options.store_root(store),
        only=only,
        targets=on,
        targets_dir=targets_dir,
        jobs=jobs,
        keep_going=keep_going,
        keep=keep,
        multi_target=dict(map(_group, together)),
        scheduler=scheduler,
        measure_again=measure_again,
    )
    with Steps() as steps:
        report = build(request, Progress(steps, request.store))
    if markdown is not None:
        write_markdown(out, markdown)
    shown = [row for row in report.rows if show_all or row.status != "cached"]
    for row in report.rows if as_json else shown:
        if row.confidence and row.confidence.warning:
            console.warn(f"{row.id}: {row.confidence.warning}")
    if as_json:
        console.out_json(report.as_json())
    else:
        _print(report, shown, out)
    if images is not False:
        _images.make(report.repositories, out, required=images is True)
    if not report.good:
        _fail(report)


def _group(text: str) -> tuple[str, tuple[str, ...]]:
    """`edge=cpu,cpu-openvino` -> the name of a repository, and its targets."""
    name, _, listed = text.partition("=")
    group = tuple(dict.fromkeys(part.strip() for part in listed.split(",")))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or len(group) < 2:
        what = f"'{text}' is no NAME=TARGET,TARGET of letters, digits, '_', '-' and '.'"
        raise click.BadParameter(what, param_hint="--together")
    return name, group


def _print(report: Report, shown: list[Row], out: Path) -> None:
    if shown:
        _print_rows(shown)
        _print_budgets(shown)
    changed = {t: made for t, made in report.repositories.items() if made["changed"]}
    if not shown and not changed:
        models = len({row.name for row in report.rows})
        console.say(f"nothing changed ({models} models; --all lists them)")
    for repository in changed.values():
        console.say(f"published {repository['folder']} ({len(repository['models'])} models)")
    served = [target for target in report.repositories if (out / target / "models").is_dir()]
    serve = f"   serve: repo-builder serve {out}/{served[0]}" if served else ""
    console.say(f"report: {out}/report.html{serve}")


def _print_rows(rows: list[Row]) -> None:
    """The table; the reason of a row that failed stands below it."""
    from repo_builder.build.report import across

    columns = [_cells(row) for row in rows]
    for optional in ("kept", _BESIDE):
        if all(cells[optional] == "-" for cells in columns):
            for cells in columns:
                del cells[optional]
    header = list(columns[0])
    text = console.table(
        header,
        [list(cells.values()) for cells in columns],
        right=[header.index(name) for name in _FIGURES if name in header],
        drop=[header.index(name) for name in _DROPPED if name in header],
        below=header.index(_BESIDE) if _BESIDE in header else None,
        notes={number: row.reason for number, row in enumerate(rows) if not row.good},
        colours={"built": "green", "cached": "dim", "failed": "red", "gate failed": "yellow"},
    )
    console.out(text)
    for row in rows:
        if row.search is not None:
            console.say(f"{row.id}: {row.search.sentence}")
        for warning in row.warnings:
            console.warn(f"{row.id}: {warning}")
    for name in dict.fromkeys(row.name for row in rows):
        if said := across.best([row for row in rows if row.name == name]):
            console.say(f"{name}: {said}")
    _print_doubts(rows)


def _print_doubts(rows: list[Row]) -> None:
    """What the question marks of the table mean."""
    from repo_builder.build.gates import MEASURE_AGAIN

    found = [(row.id, row.latency.doubt) for row in rows if row.latency and row.latency.doubt]
    if found:
        name, why = found[0]
        more = f" (and {len(found) - 1} more, see the report)" if found[1:] else ""
        console.say(f"? not to be trusted: {name}, {why}{more}; {MEASURE_AGAIN}")


_BESIDE = "beside fp32"
_FIGURES = ("size", "score", "drop", "difference", "ms (p50)")
_DROPPED = (
    "digest",
    "difference",
    "drop",
    "verified",
    "precision",
    _BESIDE,
    "score",
    "kept",
    "ms (p50)",
    "size",
)
"""Columns that a narrow terminal does without, the first of them first."""


def _print_budgets(rows: list[Row]) -> None:
    """Where the time of each pipeline goes, against its budget."""
    budgets = [(row.id, row.budget) for row in rows if row.budget is not None]
    if not budgets:
        return
    stages = tuple(budgets[0][1].stages)
    cells = [
        (
            name,
            *(f"{budget.stages[stage]:.2f}" for stage in stages),
            f"{budget.total_ms:.2f}",
            f"{budget.limit_ms:g}" if budget.limit_ms is not None else "-",
        )
        for name, budget in budgets
    ]
    header = ("pipeline@target, ms", *stages, "total", "budget")
    console.out("")
    figures = range(1, len(header))
    console.out(console.table(header, cells, figures, drop=figures[: len(stages)]))


def _cells(row: Row) -> dict[str, str]:
    """A row of the table: header -> cell."""
    score, latency = row.score, row.latency
    return {
        "model@target": row.id,
        "precision": row.precision,
        "size": console.megabytes(row.size) if row.size is not None else "-",
        "score": f"{score.built:.4f}" if score else "-",
        "drop": f"{score.drop:+.4f}" if score else "-",
        "difference": f"{row.relative:.2g}" if row.relative is not None else "-",
        "ms (p50)": f"{latency.p50_ms:.2f}{' ?' * bool(latency.doubt)}" if latency else "-",
        _BESIDE: row.fp32.text if row.fp32 else "-",
        "kept": _kept(row),
        "verified": row.level or "-",
        "digest": row.digest or "-",
        "status": row.status,
    }


def _kept(row: Row) -> str:
    """The share of rows that the edge answers; where labels are too few, how many are enough."""
    policy = row.confidence
    if policy is None:
        return "-"
    if policy.chosen is not None:
        return f"{policy.chosen.coverage:.0%}"
    if policy.max_error is None:
        return "0%"
    from repo_builder.steps._confidence import samples_needed

    needed = samples_needed(policy.max_error, policy.confidence_level)
    if policy.tested >= needed:
        return "0%"
    return (
        f"0%, {math.ceil(needed * (policy.tuned + policy.tested) / max(policy.tested, 1))} labels"
    )


def _fail(report: Report) -> None:
    from repo_builder.base.errors import BuildFailed, GateFailed, Problem

    bad = [row for row in report.rows if not row.good]
    problems = [
        Problem(line.strip(), field=row.id) for row in bad for line in row.reason.splitlines()
    ]
    message = f"{len(bad)} of {len(report.rows)} not built; what was good before stays:"
    error: Any = GateFailed if all(row.status == "gate failed" for row in bad) else BuildFailed
    raise error(message, problems)
