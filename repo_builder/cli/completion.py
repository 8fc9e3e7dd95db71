"""`repo-builder completion`: completion of commands and options for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from repo_builder.base import console


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete commands and options.

    In bash, for this session: eval "$(repo-builder completion bash)"; zsh likewise; in fish:
    repo-builder completion fish | source. To keep it, save it where your shell looks for
    completions.
    """
    from repo_builder.cli import cli
    from repo_builder.cli._bash import Bash

    kind = Bash if shell == "bash" else get_completion_class(shell)
    if kind is None:  # click knows all that the argument allows
        raise click.UsageError(f"no completion for {shell}")
    console.out(kind(cli, {}, "repo-builder", "_REPO_BUILDER_COMPLETE").source())
