"""`repo-builder targets advise`: which device does what an application needs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console
from repo_builder.cli import _complete, _options

if TYPE_CHECKING:
    from repo_builder.targets import Target
    from repo_builder.targets.advise import Candidate


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="SPEC|MODEL.onnx")
@click.option("--fps", type=_options.POSITIVE, help="Rows a second it must do.")
@click.option("--latency-ms", type=_options.POSITIVE, help="Longest time of one inference.")
@click.option("--power-w", type=_options.POSITIVE, help="Highest average draw in watts.")
@click.option("--precision", help="Only this precision. [default: each device's fastest]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=1,3,H,W",
    help="Whole shape of an input that leaves more than the batch open. Repeatable.",
)
@click.option(
    "--target",
    "on",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete.targets,
    help="Only these. Repeatable.",
)
@click.option(
    "--battery-wh",
    type=_options.POSITIVE,
    help="Capacity in Wh (mAh x V / 1000), for hours of life.",
)
@_options.number_option(
    "--system-w",
    _options.FiniteRange(0),
    2.0,
    "Draw of everything but the device, for battery and cost.",
)
@click.option("--price-kwh", type=_options.FiniteRange(0), help="Price of a kWh, for cost a year.")
@_options.targets_dir_option
@_options.json_option
def advise(
    model: Path,
    *,
    fps: float | None,
    latency_ms: float | None,
    power_w: float | None,
    precision: str | None,
    batch: int,
    shapes: tuple[str, ...],
    on: tuple[str, ...],
    battery_wh: float | None,
    system_w: float,
    price_kwh: float | None,
    targets_dir: Path | None,
    as_json: bool,
) -> None:
    """Rank devices and power modes for a model by a roofline estimate."""
    found = _options.load_targets(targets_dir)
    from repo_builder.introspect import declared
    from repo_builder.targets import advise as advisor
    from repo_builder.targets import pick

    chosen = [pick(found, name) for name in on] or list(found.values())
    only = precision_of(precision, chosen)
    with tempfile.TemporaryDirectory() as scratch:
        file = _onnx(model, found, Path(scratch))
        workload = advisor.read(file, batch, _shapes(shapes))
        uses = declared.contents(file)
    need = advisor.Need(fps, latency_ms, power_w)
    candidates = advisor.rank(workload, chosen, need, machine(), only, uses)
    records = [_record(c, battery_wh, system_w, price_kwh) for c in candidates]
    if as_json:
        console.out_json(records)
        return
    console.say(
        f"{workload.name}, batch {batch}: {workload.macs / 1e9:.3g} GMAC, "
        f"{workload.weights / 1e6:.3g} M weights, {workload.live / 1e6:.3g} M live activations, "
        f"{len(workload.layers)} layers"
    )
    for op in workload.uncounted:
        console.warn(f"the work of {op} could not be counted; estimates are too low")
    columns = [key for key in _COLUMNS if any(record.get(key) is not None for record in records)]
    rows = [[_cell(record.get(key)) for key in columns] for record in records]
    figures = [i for i, key in enumerate(columns) if key not in _WORDS]
    text = console.table(
        [_COLUMNS[key] for key in columns],
        rows,
        figures,
        drop=[columns.index(key) for key in _DROPPED if key in columns],
        below=columns.index("why"),
    )
    console.out(text)
    for line in _ASSUMPTIONS:
        console.say(line)


_COLUMNS = {
    "candidate": "device/mode",
    "precision": "precision",
    "verdict": "fits",
    "latency_ms": "ms",
    "fps": "fps",
    "bound": "bound by",
    "memory_mb": "MB",
    "watts": "W",
    "millijoules": "mJ/row",
    "battery_hours": "battery h",
    "yearly_cost": "cost/year",
    "why": "why",
}
_DROPPED = (
    "bound",
    "millijoules",
    "memory_mb",
    "yearly_cost",
    "battery_hours",
    "why",
    "watts",
    "fps",
    "precision",
)
"""Columns that a narrow terminal does without, the first of them first."""
_WORDS = ("candidate", "precision", "verdict", "bound", "why")
_ASSUMPTIONS = (
    "Estimated at dense rates on the default engine, the model alone on the device, without",
    "preprocessing, transport and queueing; right within 2x on most published figures (see",
    "docs/roofline.md). 'yes' holds even at twice the time, 'maybe' only as estimated.",
    "W is the power mode's budget while busy and the idle draw otherwise.",
)


def _record(
    candidate: Candidate, battery_wh: float | None, system_w: float, price_kwh: float | None
) -> dict[str, Any]:
    from repo_builder.targets.advise import battery_hours, yearly_cost

    timing, watts = candidate.timing, candidate.watts
    hours = cost = None
    if watts is not None:
        hours = battery_hours(battery_wh, watts, system_w) if battery_wh else None
        cost = None if price_kwh is None else yearly_cost(watts + system_w, price_kwh)
    return {
        "candidate": candidate.id,
        "precision": candidate.precision,
        "verdict": candidate.verdict,
        "latency_ms": timing.latency_ms if timing else None,
        "fps": candidate.fps,
        "bound": timing.bound if timing else None,
        "memory_mb": candidate.memory.needed_mb,
        "watts": watts,
        "millijoules": candidate.millijoules,
        "battery_hours": hours,
        "yearly_cost": cost,
        "why": "; ".join(candidate.why),
    }


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def precision_of(name: str | None, chosen: list[Target]) -> Any:
    """`name`, if one of the targets has it."""
    from repo_builder.base.errors import UsageError, did_you_mean

    known = {precision for target in chosen for precision in target.precisions}
    if name is not None and name not in known:
        who = chosen[0].name if len(chosen) == 1 else "no target"
        verb = "lacks" if len(chosen) == 1 else "has"
        raise UsageError(f"{who} {verb} precision '{name}'; {did_you_mean(name, known)}")
    return name


def _onnx(model: Path, found: dict[str, Target], scratch: Path) -> Path:
    """The ONNX file that is meant: the argument itself, or what its spec names or exports."""
    if model.suffix not in (".yaml", ".yml"):
        return model
    from repo_builder.base.errors import UsageError
    from repo_builder.spec.load import load
    from repo_builder.spec.types import Pipeline, TorchSource

    spec = load([model], found)[0]
    if isinstance(spec, Pipeline):
        raise UsageError(f"{model} is a pipeline; name the spec of one of its models")
    if isinstance(spec.source, TorchSource):
        from repo_builder.propose import torch_net

        _, exported = torch_net.exported(spec.source, scratch)
        return exported.rename(exported.with_stem(spec.name))
    return spec.source.file


def _shapes(given: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    from repo_builder.base.errors import UsageError

    shapes = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        parts = sizes.split(",")
        if not name or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise UsageError(f"--shape {text}: write NAME=1,3,224,224")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def machine() -> Any:
    """This machine, for targets that mean it."""
    import os

    from repo_builder.targets.advise import Machine

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(len(os.sched_getaffinity(0)), pages / 2**20)
