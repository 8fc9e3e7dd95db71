"""`repo-builder family`: a net in several sizes, and the largest that a device affords."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console, ending
from repo_builder.base.errors import BuildFailed, OutputError, Problem, UsageError, disk_fix
from repo_builder.cli import _advise, _complete, _options

if TYPE_CHECKING:
    from repo_builder.tune.family import Afforded, Built, Family


@click.command()
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--target", "on", required=True, metavar="NAME", shell_complete=_complete.targets,
    help="The device.",
)  # fmt: skip
@click.option("--mode", help="One of its power modes. [default: all]")
@click.option("--latency-ms", type=_options.POSITIVE, help="Longest time of one inference.")
@click.option("--memory-mb", type=_options.POSITIVE, help="Most memory, runtime included.")
@click.option("--fps", type=_options.POSITIVE, help="Rows a second it must do.")
@click.option("--power-w", type=_options.POSITIVE, help="Highest average draw in watts.")
@click.option("--precision", help="[default: the device's fastest]")
@click.option(
    "--build", "make", is_flag=True,
    help="Write the specs of the members that fit, train and build them, and compare them.",
)  # fmt: skip
@click.option(
    "--fit", is_flag=True,
    help="Instead: train members that grow in other ways, and say which growth scores best.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
    help="Where members are built.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg",
    help="Draw score against time, after --build or --fit.",
)  # fmt: skip
@_options.store_option
@_options.targets_dir_option
@_options.json_option
def command(
    spec: Path,
    *,
    on: str,
    mode: str | None,
    latency_ms: float | None,
    memory_mb: float | None,
    fps: float | None,
    power_w: float | None,
    precision: str | None,
    make: bool,
    fit: bool,
    out: Path,
    plot: Path | None,
    store: Path | None,
    targets_dir: Path | None,
    as_json: bool,
) -> None:
    """Compare the sizes of the net in SPEC, and find the largest that a device affords.

    Sizes are those of the spec's `family`. Times are estimates by the roofline, as those of
    `targets advise`, until --build has measured them.

    \b
    repo-builder family net.yaml --target jetson-orin-nx --latency-ms 5
    repo-builder family net.yaml --target cpu --latency-ms 2 --build
    """
    _options.need_build_extra("family")
    if fit and make:
        raise UsageError("--build and --fit are two things; do one after the other")
    if plot and not (fit or make):
        raise UsageError("--plot draws scores: add --build or --fit")
    ending.on_signals()
    found = _options.load_targets(targets_dir)
    from repo_builder.targets import pick
    from repo_builder.tune import family as families

    target = pick(found, on)
    if mode is not None:
        named = [one for one in target.power_modes if one.name == mode]
        if not named:
            known = ", ".join(one.name for one in target.power_modes) or "none"
            raise UsageError(f"{on} has no power mode '{mode}'; it has: {known}")
        target = target.model_copy(update={"power_modes": tuple(named)})
    family = families.read(spec, found)
    members = families.grown(family) if fit else family.members
    budget = families.Budget(latency_ms, memory_mb, fps, power_w)
    chosen = _advise.precision_of(precision, [target])
    afforded = families.afford(
        families.weigh(family, members), target, budget, _advise.machine(), chosen
    )
    best = families.largest(afforded)
    if not (make or fit):
        if as_json:
            console.out_json([_as_json(one, best) for one in afforded])
        else:
            _print(afforded, best)
        return
    fitting = {one.weighed.member.name: one for one in afforded if one.fits or fit}
    if not fitting:
        raise UsageError("no member fits; see the table without --build")
    results = _build(family, fitting, on, out, store, targets_dir)
    if plot:
        _write(plot, families.drawn(results, f"{spec.stem} on {on}"))
    if as_json:
        console.out_json([_built_json(one) for one in results])
    else:
        _print_built(results, fitting)
        if fit and (line := families.advice(results, members)):
            console.say(line)
    if bad := [one for one in results if one.why]:
        problems = [Problem(one.why, field=f"{one.name}@{one.target}") for one in bad]
        raise BuildFailed(f"{len(bad)} of {len(results)} members were not built:", problems)


def _build(
    family: Family,
    fitting: dict[str, Afforded],
    on: str,
    out: Path,
    store: Path | None,
    targets_dir: Path | None,
) -> tuple[Built, ...]:
    from repo_builder.base.progress import Steps
    from repo_builder.build import Request, build
    from repo_builder.cli._progress import Progress
    from repo_builder.tune import family as families

    files = families.write(family, [one.weighed.member for one in fitting.values()])
    console.say(f"wrote {', '.join(file.name for file in files)} beside {family.file.name}")
    root = _options.store_root(store)
    request = Request(
        specs=files,
        out=out,
        store=root,
        targets=(on,),
        targets_dir=targets_dir,
        jobs=len(os.sched_getaffinity(0)),
    )
    with Steps() as shown:
        report = build(request, Progress(shown, root))
    return families.built(report, fitting)


def _print(afforded: tuple[Afforded, ...], best: dict[str, Afforded | None]) -> None:
    rows = []
    for one in afforded:
        chosen = best[one.candidate.id] is one
        work, timing = one.weighed.workload, one.candidate.timing
        rows.append(
            [
                one.candidate.id,
                _changes(one.weighed.member.changed, one.weighed.member.phi),
                f"{work.weights / 1e3:.4g}",
                f"{work.macs / 1e6:.3g}",
                "-" if timing is None else f"{timing.latency_ms:.3g}",
                f"{one.candidate.memory.needed_mb:.3g}",
                "largest that fits" if chosen else "fits" if one.fits else "no",
                one.why,
            ]
        )
    header = ["device/mode", "member", "k weights", "M macs", "ms", "MB", "fits", "why"]
    console.out(console.table(header, rows, [2, 3, 4, 5], drop=[5, 2, 3], below=7))
    for name, chosen_one in best.items():
        member = chosen_one.weighed.member if chosen_one else None
        said = _changes(member.changed, member.phi) if member else "no member fits"
        console.say(f"{name}: {said}")


def _changes(changed: Any, phi: float | None) -> str:
    text = " ".join(f"{name}={value}" for name, value in changed.items())
    return text if phi is None else f"phi {phi:g}: {text}"


def _print_built(results: tuple[Built, ...], fitting: dict[str, Afforded]) -> None:
    rows = [
        [
            one.name,
            "-" if one.score is None else f"{one.score:.4f}",
            "-" if one.latency_ms is None else f"{'' if one.measured else '~'}{one.latency_ms:.3g}",
            f"{fitting[one.name].latency_ms or float('nan'):.3g}",
            "-" if one.size is None else f"{one.size / 1e3:.4g}",
            "not built" if one.why else "yes" if one.front else "no",
        ]
        for one in results
    ]
    header = ["member", "score", "ms", "estimated ms", "KB", "on the front"]
    console.out(console.table(header, rows, [1, 2, 3, 4], drop=[3, 4]))


def _as_json(one: Afforded, best: dict[str, Afforded | None]) -> dict[str, Any]:
    work, member = one.weighed.workload, one.weighed.member
    return {
        "candidate": one.candidate.id,
        "member": member.name,
        "kwargs": dict(member.kwargs),
        "phi": member.phi,
        "weights": work.weights,
        "macs": work.macs,
        "estimated_ms": one.latency_ms,
        "memory_mb": one.candidate.memory.needed_mb,
        "fits": one.fits,
        "largest": best[one.candidate.id] is one,
        "why": one.why,
    }


def _built_json(one: Built) -> dict[str, Any]:
    return {
        "member": one.name,
        "target": one.target,
        "score": one.score,
        "ms": one.latency_ms,
        "measured": one.measured,
        "bytes": one.size,
        "on_front": one.front,
        "why": one.why,
    }


def _write(plot: Path, text: str) -> None:
    try:
        plot.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"{plot}: {failure.strerror}; {disk_fix(failure)}") from None
