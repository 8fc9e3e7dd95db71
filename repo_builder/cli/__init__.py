"""The command line: parses arguments, calls one function of a lower room, prints the result.

Every command is a module of this package with the same name, holding a click command called
`command`. Modules are imported only when their command runs, so that `--help` stays instant. What
several commands share lies in modules with a leading underscore. Logic does not belong here: what
a program could want without a terminal is a function of a lower room.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from repo_builder import __version__
from repo_builder.cli import _talk

COMMANDS = {
    "init": "Write a commented spec for an ONNX model.",
    "data": "Make calibration and evaluation data from images, tables, arrays.",
    "build": "Build, verify and assemble the models of spec files.",
    "plan": "Show what a build would run, and why.",
    "lint": "Find what Triton would refuse, in any model repository.",
    "sensitivity": "Rank the layers of a model by what int8 costs in them.",
    "family": "Compare sizes of a net; find the largest that a device affords.",
    "tune": "Find the best way to serve a model on this machine, by measuring.",
    "targets": "Know the devices, choose one, set its power.",
    "roi": "Say whether edge devices pay, from their costs.",
    "release": "Make, compare and promote releases of models.",
    "registry": "Look after a registry of releases.",
    "images": "Make, inspect, compare and move images of built repositories.",
    "verify": "Check an image or a folder against its manifest and signature.",
    "keys": "Make and list signing keys; sign a built repository.",
    "pins": "Show what images are made of, and pin base images by digest.",
    "cache": "Look after the store of results.",
    "examples": "Copy the example specs and models.",
    "compose": "Print a compose file: edge, cloud or dev.",
    "schema": "Print the JSON Schema of spec files, for editors.",
    "completion": "Print what lets a shell complete commands and options.",
    "serve": "Serve a repository with Triton until Ctrl-C.",
    "infer": "Ask a model that is served and print its outputs.",
    "bench": "Drive load on a served model and show its latencies.",
    "trace": "Show where a slow request to a served model spent its time.",
    "measure": "Measure what was built: throughput, latency, memory.",
    "preflight": "Tell whether a TensorRT plan fits a device.",
    "engines": "Build TensorRT plans on a device, at its first start.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use; `--help` needs only their one-liners."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's; a shell that asks for completions is understood as its users type."""
        if "_REPO_BUILDER_COMPLETE" in os.environ:
            from click.shell_completion import add_completion_class

            from repo_builder.cli._bash import Bash

            add_completion_class(Bash)
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a user's story."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"repo_builder.cli.{cmd_name}")
        command: click.Command = module.command
        _talk.add_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion for a command that is misspelt."""
        unknown = args and args[0] not in COMMANDS and not args[0].startswith("-")
        if unknown and not ctx.resilient_parsing:  # which only completes, and says nothing
            from repo_builder.base.errors import did_you_mean

            ctx.fail(f"No such command '{args[0]}'; {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="repo-builder")
def cli() -> None:
    """From model spec files to served, verified edge models.

    Start with: repo-builder build model_specs/
    """


_talk.add_options(cli)
