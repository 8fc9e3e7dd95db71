"""`repo-builder bench`: load on a served model, and its latencies."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from repo_builder.base import console, machine
from repo_builder.base.errors import InferError, OutputError, UsageError
from repo_builder.cli import _complete, _options

if TYPE_CHECKING:
    from repo_builder.client.load import Load

_Found = TypeVar("_Found")
_BAR = 40
_REST_S = 0.3
"""How long to look at the machine before and after, while nobody asks."""

_BLOCKS = 20
"""Of so many parts of the calls the medians are compared."""


@click.command()
@click.argument("url")
@click.option("--model", required=True, shell_complete=_complete.served, help="The model to ask.")
@click.option(
    "--latency",
    "alone",
    is_flag=True,
    help="One call after the other, and whether the machine was quiet enough to trust the figure.",
)
@click.option("--callers", type=click.IntRange(1), help="Closed loop: so many ask at once [4].")
@click.option(
    "--rate",
    type=_options.POSITIVE,
    help="Open loop: calls a second at random times; latencies count from when a call was due.",
)
@_options.number_option("--seconds", _options.POSITIVE, 10.0, "How long to measure.")
@_options.number_option("--rows", click.IntRange(1), 1, "Rows a call, where inputs are made up.")
@click.option(
    "--input",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A .npz file with an array a model input; its rows are sent in turn "
    "[default: random values].",
)
@click.option(
    "--soak",
    type=_options.Duration(),
    help="Go on for so long, e.g. 20m, and tell what the device keeps when it gets warm; "
    "run it on the device itself.",
)
@click.option("--cloud", help="The cloud's servers, for a model that falls back.")
@_options.number_option("--timeout", _options.POSITIVE, 10.0, "Deadline of a call, in seconds.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the percentiles, as SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    *,
    url: str,
    model: str,
    alone: bool,
    callers: int | None,
    rate: float | None,
    seconds: float,
    rows: int,
    file: Path | None,
    soak: float | None,
    cloud: str | None,
    timeout: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Drive load on the Triton at URL (host:port of its gRPC) and print the latencies.

    \b
    repo-builder bench localhost:8001 --model digits --callers 16
    repo-builder bench localhost:8001 --model digits --rate 200
    repo-builder bench localhost:8001 --model digits --latency
    repo-builder bench localhost:8001 --model digits --soak 20m --plot soak.svg
    """
    if (callers is not None) + (rate is not None) + alone > 1:
        raise UsageError("give one of --latency, --callers (closed loop) and --rate (open loop)")
    if soak is not None and alone:
        raise UsageError("--soak needs load that warms the device; leave --latency out")
    from repo_builder.client import ClientError

    callers = 1 if alone else callers or 4
    ask = _Ask(url, cloud, model, callers, rate, rows, file, timeout)
    if soak is not None:
        _soak(ask, soak, plot, as_json=as_json)
        return
    before = machine.quiet_for(_REST_S) if alone else None
    watch = machine.Watch()

    try:
        load = asyncio.run(_measure(ask, lambda one: one(seconds)))
    except ClientError as error:
        raise InferError(str(error)) from None
    loop = "one call after the other" if alone else ask.loop
    trust = _trust(load, before, watch.conditions()) if before else None
    if plot:
        _draw(plot, f"{model}: {loop}", load)
    if as_json:
        console.out_json({**_figures(load), **({"trust": trust} if trust else {})})
        return
    console.say(f"{model} at {url}: {loop}, {load.seconds:.1f} s")
    _print(load, rate)
    if trust:
        _print_trust(trust)


@dataclass(frozen=True)
class _Ask:
    """Whom to ask, and how."""

    url: str
    cloud: str | None
    model: str
    callers: int
    rate: float | None
    rows: int
    file: Path | None
    timeout: float

    @property
    def loop(self) -> str:
        return (
            f"{self.rate:g} calls/s, open loop"
            if self.rate
            else f"{self.callers} callers, closed loop"
        )


async def _measure(
    ask: _Ask, drive: Callable[[Callable[[float], Awaitable[Load]]], Awaitable[_Found]]
) -> _Found:
    """What `drive` finds with a function that makes load for some seconds."""
    from repo_builder.client import AsyncEdgeClient, Limits
    from repo_builder.client import load as loads

    # The load is to reach the server: the client's own queue must not shed or delay it.
    limits = Limits(concurrency=1_000_000, queue=0)
    model, timeout = ask.model, ask.timeout
    async with AsyncEdgeClient(ask.url, ask.cloud, limits=limits) as client:
        described = await client.describe(model, timeout=timeout)
        inputs = made_inputs(described, ask.rows, ask.file)
        for one in inputs[:3]:
            await client.infer(model, one, timeout=timeout)
        asking = loads.asking(client, model, inputs, timeout)

        async def load(seconds: float) -> Load:
            if ask.rate:
                return await loads.open_loop(asking, rate=ask.rate, seconds=seconds)
            return await loads.closed_loop(asking, callers=ask.callers, seconds=seconds)

        return await drive(load)


def _soak(ask: _Ask, seconds: float, plot: Path | None, *, as_json: bool) -> None:
    """Load for long, and what the device keeps."""
    from dataclasses import asdict

    from repo_builder.client import ClientError
    from repo_builder.tune import soak as soaks

    tenths = 0

    def told(one: soaks.Slice, done: float) -> None:
        nonlocal tenths
        warm = "" if one.celsius is None else f", {one.celsius:.0f} C"
        line = f"{done:4.0%}: {one.per_second:.1f} calls a second{warm}"
        if int(10 * done) > tenths:
            tenths = int(10 * done)
            console.say(line)
        else:
            console.detail(line)

    console.say(f"{ask.model} at {ask.url}: {ask.loop}, for {console.seconds(seconds)}")
    if ask.rate:
        console.say("its rate is given, so latencies tell more than throughput")
    try:
        soak = asyncio.run(_measure(ask, lambda load: soaks.run(load, seconds, told=told)))
        found = soaks.kept(soak)
    except ClientError as error:
        raise InferError(str(error)) from None
    except ValueError as error:
        raise InferError(f"{ask.model}: {error}") from None
    if plot:
        _write(plot, soaks.chart(f"{ask.model}: {ask.loop}", soak, found))
    if as_json:
        console.out_json({"kept": asdict(found), **asdict(soak)})
    else:
        for line in soaks.lines(soak, found):
            console.out(console.fitted(line))
    for line in soak.missing:
        console.say(f"not read: {line}")
    for line in (found.spread, *soak.doubts):
        if line:
            console.warn(line)


def made_inputs(model: Any, rows: int, file: Path | None) -> list[dict[str, Any]]:
    """What to send in turn: the file's rows, or a few made-up batches."""
    import numpy as np

    if file:
        try:
            with np.load(file, allow_pickle=False) as data:
                arrays = {tensor.name: data[tensor.name] for tensor in model.inputs}
        except (OSError, ValueError, KeyError) as error:
            raise InferError(f"{file}: cannot be used: {error}") from None
        count = min(len(array) for array in arrays.values())
        starts = range(0, max(1, count - rows + 1), rows)
        return [{k: a[i : i + rows] for k, a in arrays.items()} for i in starts]
    rng = np.random.default_rng(0)
    made = []
    for _ in range(16):
        given: dict[str, Any] = {}
        for tensor in model.inputs:
            if tensor.datatype == "BYTES" or -1 in tensor.dims:
                raise UsageError(
                    f"input '{tensor.name}' is {tensor.datatype} {list(tensor.dims)}, which cannot "
                    "be made up; give --input FILE.npz"
                )
            shape = (rows, *tensor.dims) if model.max_rows else tensor.dims
            given[tensor.name] = rng.random(shape).astype(tensor.dtype)
        made.append(given)
    return made


def _figures(load: Load) -> dict[str, Any]:
    from repo_builder.client.load import PERCENTILES

    return {
        "calls": len(load.latencies),
        "calls_per_second": load.rate,
        "errors": dict(load.errors),
        "late_starts": load.late_starts,
        "latency_ms": {
            "mean": 1e3 * sum(load.latencies) / len(load.latencies) if load.latencies else None,
            **{
                ("max" if q == 100 else f"p{q:g}"): (
                    1e3 * load.percentile(q) if load.latencies else None
                )
                for q in PERCENTILES
            },
        },
        "seconds": load.seconds,
        "sources": dict(load.sources),
    }


def _trust(load: Load, before: machine.Conditions, during: machine.Conditions) -> dict[str, Any]:
    """What the machine did, and what speaks against the figures; "" where nothing does.

    Others are seen while nobody asks: when somebody does, the server's work would count as theirs.
    """
    after = machine.quiet_for(_REST_S)
    loads = [one.load for one in (before, after) if one.load is not None]
    others = max(loads, default=None)
    size = max(1, len(load.latencies) // _BLOCKS)
    blocks = [load.latencies[i : i + size] for i in range(0, len(load.latencies) - size + 1, size)]
    spread = machine.spread([statistics.median(block) for block in blocks])
    return {
        "cpu": during.cpu,
        "cores": during.cores,
        "load": others,
        "throttled": during.throttled,
        "spread": spread,
        "doubt": machine.doubt(others, during.throttled, spread),
    }


def _print_trust(trust: dict[str, Any]) -> None:
    load = "unknown" if trust["load"] is None else f"{trust['load']:.0%}"
    cores = f"{trust['cores']} core{'s' * (trust['cores'] != 1)}"
    spread = f"{trust['spread']:.0%}"
    console.out(f"on {trust['cpu']}, {cores}; others used {load} of it, medians spread {spread}")
    if trust["doubt"]:
        console.warn(f"not to be trusted: {trust['doubt']}; ask again while the machine is quiet")


def _print(load: Load, rate: float | None) -> None:
    figures = _figures(load)
    latencies = figures["latency_ms"]
    longest = latencies["max"] or 1.0
    rows = [
        (name, f"{value:.2f}", "#" * round(_BAR * value / longest))
        for name, value in latencies.items()
        if value is not None
    ]
    console.out(console.table(("latency", "ms", ""), rows, right=(1,)))
    console.out(f"{len(load.latencies)} calls, {load.rate:.1f} a second")
    if load.sources.keys() - {"edge"}:
        shares = (f"{k} {v / len(load.latencies):.1%}" for k, v in load.sources.most_common())
        console.out("answered by: " + ", ".join(shares))
    if load.errors:
        console.out("errors: " + ", ".join(f"{k} {v}" for k, v in load.errors.most_common()))
    if rate and load.late_starts > 0.01 * max(1, len(load.latencies)):
        console.warn(
            f"{load.late_starts} calls began more than 10 ms late: this process cannot make "
            f"{rate:g} calls a second; their latency counts from when they were due"
        )


def _draw(plot: Path, title: str, load: Load) -> None:
    from repo_builder.base.svg import line_chart

    # Percentiles by their number of nines, so that the tail gets as much room as the middle.
    nines = [i / 20 for i in range(61)]
    points = [(x, 1e3 * load.percentile(100 * (1 - 10**-x))) for x in nines]
    most = math.log10(max(10, len(load.latencies)))
    shown = [point for point in points if point[0] <= most]
    ticks = [(0.301, "p50"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9")]
    text = line_chart(
        title,
        "percentile of calls",
        "latency, ms",
        {"latency": shown},
        x_ticks=[tick for tick in ticks if tick[0] <= most],
    )
    _write(plot, text)


def _write(plot: Path, text: str) -> None:
    try:
        plot.write_text(text)
    except OSError as error:
        raise OutputError(f"cannot write {plot}: {error.strerror}") from None
