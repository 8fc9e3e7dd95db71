"""Numbers on the command line: each option has its range, and NaN is in none."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from repo_builder.cli import cli
from repo_builder.cli._options import FiniteRange


def options(
    group: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Option]]:
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from options(command, (*words, name))
        return
    for option in group.params:
        if isinstance(option, click.Option):
            yield " ".join([*words, option.opts[0]]), option


NUMBERS = {
    what: option
    for what, option in options(cli)
    if isinstance(option.type, type(click.FLOAT) | type(click.INT))
}


def test_there_are_numbers() -> None:
    assert {"bench --seconds", "serve --http-port", "images inspect --max-disk-mb"} <= set(NUMBERS)


@pytest.mark.parametrize("what", NUMBERS)
def test_a_number_has_a_range(what: str) -> None:
    assert isinstance(NUMBERS[what].type, FiniteRange | click.IntRange)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "ten"])
def test_what_is_no_duration_is_refused(value: str) -> None:
    words = ["bench", "localhost:1", "--model", "digits", "--seconds", value]
    printed = CliRunner().invoke(cli, words)
    assert printed.exit_code == 2
    assert "Invalid value for '--seconds'" in printed.output
    assert value in printed.output
