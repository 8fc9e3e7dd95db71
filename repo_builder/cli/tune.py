"""`repo-builder tune`: the best way to serve a model on this machine, measured on a Triton."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console, ending
from repo_builder.base.errors import BuildFailed, GateFailed, Problem, UsageError
from repo_builder.cli import _complete, _options

if TYPE_CHECKING:
    from repo_builder.spec.types import Spec
    from repo_builder.tune.rules.types import Recommendation
    from repo_builder.tune.run import Asked


@click.command()
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--target", "on", multiple=True, metavar="NAME", shell_complete=_complete.targets,
    help="A target of SPEC that this machine is. Repeatable. [default: all that are]",
)  # fmt: skip
@click.option(
    "--slo", default="", metavar="LIMIT", help="The latency to keep, such as 'p99<=20ms'."
)
@click.option("--rate", type=_options.POSITIVE, help="Requests a second at which it is kept.")
@click.option(
    "--maximize", default="", metavar="throughput", help="Instead of a rate: as many as possible."
)
@click.option(
    "--cores", type=click.IntRange(1, 1024), help="Cores that may be used. [default: all]"
)
@_options.number_option(
    "--seconds", _options.POSITIVE, 600.0, "When to stop, however sure it is by then."
)
@click.option("--again", is_flag=True, help="Measure again what was measured before.")
@click.option(
    "--triton", metavar="HOST:PORT",
    help="A Triton elsewhere, in explicit mode, that serves --model; SPEC is not needed then.",
)  # fmt: skip
@click.option("--model", metavar="NAME", help="The model on that Triton.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
    help="Where SPEC is built.",
)  # fmt: skip
@_options.store_option
@_options.targets_dir_option
@_options.json_option
def command(
    *,
    spec: Path | None,
    on: tuple[str, ...],
    slo: str,
    rate: float | None,
    maximize: str,
    cores: int | None,
    seconds: float,
    again: bool,
    triton: str | None,
    model: str | None,
    out: Path,
    store: Path | None,
    targets_dir: Path | None,
    as_json: bool,
) -> None:
    """Find the best way to serve SPEC on this machine, by load on a genuine Triton.

    Runtimes, instances and threads, batching and shared memory are tried, the most promising first,
    and the best one takes turns with the current one. What is better goes into tuning.yaml beside
    SPEC, which the next build uses.

    \b
    repo-builder tune digits.yaml --slo 'p99<=20ms' --rate 200
    repo-builder tune digits.yaml --maximize throughput
    repo-builder tune --triton device:8001 --model digits --maximize throughput
    """
    from repo_builder.run.store import Store
    from repo_builder.tune.rules.types import Objective
    from repo_builder.tune.run import Asked

    here = len(os.sched_getaffinity(0))
    if triton is None and cores is not None and cores > here:
        raise UsageError(f"--cores {cores}: this machine has {here}")
    if (spec is None) == (triton is None) or (model is None) != (triton is None):
        raise UsageError("name a SPEC, or a --triton and its --model")
    if triton is not None and on:
        raise UsageError("--target says which builds of a SPEC to try; a --triton has its own")
    asked = Asked(Objective.of(slo, rate, maximize), cores or here, seconds)
    ending.on_signals()
    kept = Store(_options.store_root(store))
    if triton is not None and model is not None:
        found = _elsewhere(triton, model, asked, kept, again=again)
        _tell(model, found, as_json=as_json)
    elif spec is not None:
        name, found = _here(spec, on, asked, kept, out, targets_dir, again=again)
        _tell(name, found, as_json=as_json)
    if found.outcome in ("unmet", "unserved"):
        raise GateFailed(
            f"{asked.objective} cannot be kept; what is best is told above"
            if found.outcome == "unmet"
            else "no way to serve it worked"
        )


def _here(
    spec: Path,
    on: tuple[str, ...],
    asked: Asked,
    kept: Any,
    out: Path,
    targets_dir: Path | None,
    *,
    again: bool,
) -> tuple[str, Recommendation]:
    """Build SPEC, tune what was built, and write down what is better."""
    _options.need_build_extra("tune")
    from repo_builder.base.progress import Steps
    from repo_builder.build import Request, build
    from repo_builder.cli._progress import Progress
    from repo_builder.spec import tuning
    from repo_builder.spec.candidate import RUNTIMES
    from repo_builder.spec.load import load
    from repo_builder.spec.types import Spec as Model
    from repo_builder.tune import published, run
    from repo_builder.tune.local import Local

    targets = _options.load_targets(targets_dir)
    specs = [one for one in load([spec], targets) if isinstance(one, Model)]
    chosen = [
        one
        for one in specs
        if (not on or one.target in on)
        and targets[one.target].runtime in RUNTIMES
        and targets[one.target].on_cpu
    ]
    if on:
        chosen.sort(key=lambda one: on.index(one.target))
    if not chosen:
        listed = ", ".join(one.target for one in specs) or "none"
        raise UsageError(f"{spec}: none of its targets is this machine's CPU ({listed})")
    request = Request(
        specs=(spec,),
        out=out,
        store=kept.root,
        targets=tuple(one.target for one in chosen),
        targets_dir=targets_dir,
        jobs=len(os.sched_getaffinity(0)),
    )
    with Steps() as shown:
        report = build(request, Progress(shown, request.store))
    if bad := [row for row in report.rows if not row.good]:
        problems = [Problem(row.reason, field=row.id) for row in bad]
        raise BuildFailed("what is not built cannot be tuned:", problems)
    name = chosen[0].name
    model = published.servable(name, [out / one.target for one in chosen])
    with _bench(Local(asked.cores)) as bench:
        found = run.choose(bench, model, _rows(chosen[0]), asked, kept, _show(), again=again)
    digests = {row.target: row.digest for row in report.rows}
    by_runtime = {targets[one.target].runtime: one for one in chosen}
    if found.candidate is not None:
        own = by_runtime[found.candidate.runtime]
        if one := run.entry(found, asked, digests[own.target]):
            path = tuning.write(spec.parent, {own.id: one})
            console.say(f"wrote {own.id} to {path}; the next build uses it")
            if own is not chosen[0]:
                console.say(f"serve {out / own.target}: there it is faster than {chosen[0].target}")
    return name, found


def _elsewhere(url: str, model: str, asked: Asked, kept: Any, *, again: bool) -> Recommendation:
    from repo_builder.tune import run
    from repo_builder.tune.remote import Remote

    server = Remote(url)
    with _bench(server) as bench:
        found = run.choose(bench, server.servable(model), None, asked, kept, _show(), again=again)
    console.say("the runtime and shared memory were not tried: they are what that Triton has")
    return found


@contextlib.contextmanager
def _bench(server: Any) -> Iterator[Any]:
    """The server, and what sends to it, while no other tuning runs on this machine."""
    from repo_builder.tune import turn
    from repo_builder.tune.block import Bench
    from repo_builder.tune.sender import Sender

    with turn.taken(console.say), server, Sender() as sender:
        yield Bench(server, sender, console.say)


def _rows(spec: Spec) -> Mapping[str, Any] | None:
    """Inputs as the spec's data has them; None where it names none."""
    import numpy as np

    data = spec.calibration
    if data is None:
        return None
    with np.load(data.path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _show() -> Any:
    """Tells what is measured next."""

    def tell(wanted: Any, looks: int, spent: float, allowed: float) -> None:
        load = "saturated" if wanted.rate is None else f"{wanted.rate:.4g}/s"
        said = f"{wanted.candidate.label}, {load}, {wanted.seconds:.3g} s ({wanted.why})"
        console.say(f"[{spent:3.0f} of {allowed:.0f} s] look {looks + 1}: {said}")

    return tell


def _tell(name: str, found: Recommendation, *, as_json: bool) -> None:
    from repo_builder.tune import run

    if as_json:
        console.out_json(run.as_json(name, found))
        return
    for line in found.evidence:
        console.say(line)
    said = f"{name}: {found.outcome}"
    if found.candidate and found.value:
        low, middle, high = found.value
        said += f": {found.candidate}: {middle:.4g} {found.unit} ({low:.4g} to {high:.4g})"
    console.out(said)
