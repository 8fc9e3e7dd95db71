"""`repo-builder targets`: the devices, which one to take, and how to set its power."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

from repo_builder.base import console
from repo_builder.cli import _complete, _options
from repo_builder.cli._advise import advise


@click.group()
def command() -> None:
    """Know the devices, choose one, set its power."""


command.add_command(advise)


@command.command("list")
@_options.targets_dir_option
@_options.json_option
def list_(targets_dir: Path | None, as_json: bool) -> None:
    """List all targets."""
    found = _options.load_targets(targets_dir)
    if as_json:
        console.out_json([target.model_dump() for target in found.values()])
        return
    rows = [
        (t.name, t.title, ",".join(t.architectures), t.runtime, ",".join(t.precisions))
        for t in found.values()
    ]
    header = ("target", "device", "for", "runtime", "precisions")
    console.out(console.table(header, rows, drop=(4, 2), wrap=(1,)))


@command.command()
@click.argument("name", shell_complete=_complete.targets)
@_options.targets_dir_option
@_options.json_option
def show(name: str, targets_dir: Path | None, as_json: bool) -> None:
    """Show every figure of one target, and where it comes from."""
    found = _options.load_targets(targets_dir)
    from repo_builder.targets import page, pick

    target = pick(found, name)
    if as_json:
        console.out_json(target.model_dump())
        return
    console.out(console.fitted(f"{target.name}: {page.summary(target)}"))
    console.out("")
    facts = list(page.facts(target))
    named = [(f"{label} [{fact.source}]" if fact.source else label,) for label, _, fact in facts]
    said = {
        number: "\n".join(filter(None, (figure, fact.guide and f"guide: {fact.guide}", fact.note)))
        for number, (_, figure, fact) in enumerate(facts)
    }
    console.out(console.table(("what [source]",), named, notes=said))
    for note in target.notes:
        console.out(console.fitted(f"- {note}"))
    console.out("")
    for key, source in sorted(target.sources.items()):
        console.out(console.fitted(f"[{key}] {source.title}"))
        if source.url:
            console.out(f"    {source.url}")  # whole, so that a terminal can open it


@command.command()
@_options.targets_dir_option
def page(targets_dir: Path | None) -> None:
    """Print the catalog as a Markdown page (docs/targets.md)."""
    found = _options.load_targets(targets_dir)
    from repo_builder.targets import page as pages

    console.out(pages.page(found.values()).rstrip())


@command.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("/"),
    help="The tree that has sys/ and proc/ [/].",
)
@_options.json_option
def sensors(root: Path, as_json: bool) -> None:
    """List what this machine tells of power, heat and clocks, and why the rest is missing."""
    from dataclasses import asdict

    from repo_builder.base import energy
    from repo_builder.base.energy import climate

    found, now = energy.find(root), climate.read(root)
    counted = energy.chosen(found.sources, slow=True)
    if as_json:
        told = [{**asdict(s.about), "counted": s in counted} for s in found.sources]
        missing = [str(one) for one in found.missing] + list(now.missing)
        console.out_json({"power": told, **asdict(now), "missing": missing})
        return
    rows: list[tuple[str, ...]] = [
        (s.about.way, s.about.name, s.about.covers, s.about.unit, f"{s.about.resolution:g}")
        for s in found.sources
    ]
    rows += [("thermal", name, "", "C", f"{value:.1f}") for name, value in now.celsius.items()]
    rows += [("clock", name, "", "MHz", f"{value:.0f}") for name, value in now.mhz.items()]
    rows += [("throttled", name, "", "", str(count)) for name, count in now.throttles.items()]
    if rows:
        console.out(
            console.table(("by", "name", "covers", "unit", "step or now"), rows, right=(4,))
        )
    for line in (*map(str, found.missing), *now.missing):
        console.say(f"not read: {line}")
    if counted:
        names = ", ".join(source.about.name for source in counted)
        console.say(f"the machine's power is taken as: {names}")


@command.command("tegrastats")
@click.argument("log", type=click.File(encoding="utf-8", errors="replace"))
@_options.json_option
def tegrastats_(log: TextIO, as_json: bool) -> None:
    """Sum up a LOG of tegrastats (- is stdin): mean watts of rails, mean and highest heat."""
    from dataclasses import asdict

    from repo_builder.base.energy import tegrastats
    from repo_builder.base.errors import DataError

    found = tegrastats.log(log)
    if not found.lines:
        raise DataError(f"{log.name}: no line of tegrastats")
    if as_json:
        console.out_json(asdict(found))
        return
    rows = [(name, f"{watts:.3f}", "W", "") for name, watts in found.watts.items()]
    rows += [(n, f"{mean:.1f}", "C", f"{top:.1f}") for n, (mean, top) in found.celsius.items()]
    console.out(console.table(("of", "mean", "", "highest"), rows, right=(1, 3)))
    console.say(f"{found.lines} lines" + (f", {found.others} others" if found.others else ""))
    if not found.watts:
        console.say("no rails: tegrastats tells them to root only")


@command.command("battery-life")
@click.argument("model_watts", type=_options.FiniteRange(0))
@click.option("--idle-watts", type=_options.FiniteRange(0), required=True, help="Of all else.")
@click.option("--mah", type=_options.POSITIVE, help="Capacity [what this machine's has left].")
@click.option("--volts", type=_options.POSITIVE, help="Its voltage, with --mah.")
def battery_life(
    model_watts: float, idle_watts: float, mah: float | None, volts: float | None
) -> None:
    """Say how many hours a battery lasts at MODEL_WATTS above what the rest draws."""
    from repo_builder.base.energy import CannotRead, account, battery
    from repo_builder.base.errors import DataError, UsageError

    if (mah is None) != (volts is None):
        raise UsageError("give --mah and --volts together, or neither")
    try:
        if mah is not None and volts is not None:
            hours = account.battery_hours(mah, volts, model_watts, idle_watts)
        else:
            left = 1000 * battery.watt_hours()
            hours = account.battery_hours(left, 1.0, model_watts, idle_watts)
    except CannotRead as failure:
        raise DataError(f"{failure}; give --mah and --volts") from None
    except ValueError as failure:
        raise UsageError(str(failure)) from None
    console.out(f"{hours:.1f} hours")


@command.command("tune-power")
@click.argument("name", shell_complete=_complete.targets)
@click.option(
    "--mode",
    shell_complete=_complete.power_modes,
    help="The power mode, as `targets show` lists them.",
)
@click.option(
    "--cap",
    "caps",
    multiple=True,
    metavar="ENGINE=MHZ",
    help="Cap an engine's clock below the mode's. Repeatable.",
)
@click.option("--governor", help="cpufreq's governor for all CPUs, e.g. powersave.")
@click.option("--preference", help="Energy preference (EPP), e.g. balance_power.")
@click.option("--cpu-mhz", type=click.IntRange(1), help="The most MHz of all CPUs.")
@click.option(
    "--package-watts", type=_options.POSITIVE, help="Long-term limit of each processor (RAPL)."
)
@click.option("--apply", is_flag=True, help="Set it on this machine, read it back; needs root.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("/"),
    help="With --apply: the tree that has sys/ and usr/ [/].",
)
@_options.targets_dir_option
def tune_power(
    *,
    name: str,
    mode: str | None,
    caps: tuple[str, ...],
    governor: str | None,
    preference: str | None,
    cpu_mhz: int | None,
    package_watts: float | None,
    apply: bool,
    root: Path,
    targets_dir: Path | None,
) -> None:
    """Print the script that sets a power mode; say what to expect of it.

    With --apply nothing is printed to run: it is set here, each value is read back, and where one
    does not take, all go back to what they were.
    """
    found = _options.load_targets(targets_dir)
    from repo_builder.base.errors import UsageError
    from repo_builder.targets import pick, power_apply
    from repo_builder.targets.power_tuning import Processor, actions, tuning

    wanted = {}
    for text in caps:
        engine, _, clock = text.partition("=")
        if not clock.isdigit():
            raise UsageError(f"--cap {text}: write ENGINE=MHZ, e.g. gpu=510")
        wanted[engine] = int(clock)
    target, processor = pick(found, name), Processor(governor, preference, cpu_mhz, package_watts)
    result = tuning(target, mode, wanted, processor)
    for line in result.expect:
        console.say(line)
    if not apply:
        console.out(result.script)
        return
    applied = power_apply.apply(actions(target, mode, wanted, processor, root), root)
    for line in applied.changes:
        console.out(line)
    for line in applied.notes:
        console.say(line)
