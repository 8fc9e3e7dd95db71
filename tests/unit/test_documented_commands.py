"""Every repo-builder command in README and docs is one that the command line takes."""

from __future__ import annotations

import shlex

import click
import documents
import pytest

from repo_builder.cli import cli

FOUND = [
    pytest.param(command, id=f"{page.name}:{line}")
    for page in documents.PAGES
    for line, command in documents.commands(page)
    if command.startswith("repo-builder ")
]


def refusal(command: str) -> str:
    """Why click refuses the names in `command`, its files apart; '' where it takes them."""
    words = shlex.split(
        command.split(" | ", maxsplit=1)[0].split(" > ", maxsplit=1)[0], comments=True
    )[1:]
    words = words[: words.index("&&")] if "&&" in words else words
    words = [word for word in words if word not in ("&", "...")]
    found: click.Command = cli
    with click.Context(cli) as context:
        while isinstance(found, click.Group) and words:
            name = words.pop(0)
            chosen = found.get_command(context, name)
            if chosen is None:
                return f"no command {name}"
            found = chosen
        try:
            found.make_parser(click.Context(found)).parse_args(words)
        except click.UsageError as wrong:
            return wrong.format_message()
    return ""


@pytest.mark.parametrize("command", FOUND)
def test_the_command_line_takes_it(command: str) -> None:
    assert not refusal(command)


def test_another_name_is_refused() -> None:
    assert "no command" in refusal("repo-builder bild specs/")
    assert "--jbs" in refusal("repo-builder build specs/ --jbs 2")
    assert "serve" not in refusal("repo-builder serve build/cpu")
