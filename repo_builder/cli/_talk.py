"""`-q`, `-v` and `--debug`, which every command has: how much is said on stderr."""

from __future__ import annotations

import click

from repo_builder.base import console

_HELP = {
    "quiet": (("-q", "--quiet"), "Say warnings and errors only."),
    "verbose": (("-v", "--verbose"), "Say more of what is done."),
    "debug": (("--debug",), "Show the traceback of a failure."),
}


def add_options(command: click.Command) -> None:
    """Give `command`, and the commands that it has, the options; nothing where it has them."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_options(inner)
    taken = {option for one in command.params for option in one.opts}
    for name, (options, text) in _HELP.items():
        if taken.isdisjoint(options):
            command.params.append(
                click.Option(
                    [*options, f"talk_{name}"],
                    is_flag=True,
                    expose_value=False,
                    callback=_set,
                    help=text,
                )
            )


def _set(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Heed an option, given before or after the command's name."""
    name = str(param.name).removeprefix("talk_")
    if value or ctx.parent is None:  # the outermost is read first, so it also forgets
        setattr(console.talk, name, value)
