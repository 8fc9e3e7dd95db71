"""`repo-builder targets`: the devices, which one to take, and how to set its power."""

from __future__ import annotations

from pathlib import Path

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
@_options.targets_dir_option
def tune_power(
    name: str, mode: str | None, caps: tuple[str, ...], targets_dir: Path | None
) -> None:
    """Print the script that sets a power mode; say what to expect of it."""
    found = _options.load_targets(targets_dir)
    from repo_builder.base.errors import UsageError
    from repo_builder.targets import pick
    from repo_builder.targets.power_tuning import tuning

    wanted = {}
    for text in caps:
        engine, _, clock = text.partition("=")
        if not clock.isdigit():
            raise UsageError(f"--cap {text}: write ENGINE=MHZ, e.g. gpu=510")
        wanted[engine] = int(clock)
    result = tuning(pick(found, name), mode, wanted)
    for line in result.expect:
        console.say(line)
    console.out(result.script)
