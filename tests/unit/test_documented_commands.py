"""What README and docs say to type names what is there, also where no test can run it.

tests/cases/images/test_documented_commands_run.py runs it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import click
import documents
import pytest

from repo_builder.base import errors
from repo_builder.cli import cli

# Commands that cannot run in tests, each with its reason in its page; not more.
MOST_NOT_RUN = 10
TYPED = [
    pytest.param(command, id=f"{page.name}:{block.line}:{number}")
    for page in documents.PAGES
    for number, (block, command) in enumerate(documents.commands(page))
]
# In a sentence, with a program's arguments; a name alone is no command.
_INLINE = re.compile(r"`(repo-builder [^`]+|python (?:-m )?[\w./]+[^`]*)`")
_FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
INLINE = [
    pytest.param(command, id=f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}")
    for page in documents.PAGES
    for text in [_FENCED.sub(lambda block: "\n" * block[0].count("\n"), page.read_text())]
    for found in _INLINE.finditer(text)
    for command in [found[1]]
]


def refusal(command: str) -> str:
    """Why a command names what is not there: a command, an option, a module, a file; '' else."""
    for part in re.split(r" && | \| |(?<=\)) ", command.replace("\\\n", "")):
        words = shlex.split(re.split(r" >+ | &$", part)[0], comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words and (why := _JUDGES.get(words[0], lambda _: "")(words[1:])):
            return why
    return ""


def _ours(words: list[str]) -> str:
    found: click.Command = cli
    with click.Context(cli) as context:
        while isinstance(found, click.Group) and words and not words[0].startswith("-"):
            name = words.pop(0)
            chosen = found.get_command(context, name)
            if chosen is None:
                return f"no command {name}"
            found = chosen
        try:
            found.make_parser(click.Context(found)).parse_args([w for w in words if w != "..."])
        except click.UsageError as wrong:
            return wrong.format_message()
    return ""


def _python(words: list[str]) -> str:
    if words[0] == "-m":
        return "" if find_spec(words[1]) else f"no module {words[1]}"
    known = (documents.ROOT / words[0]).is_file() or any(
        block.title == words[0] for page in documents.PAGES for block in documents.blocks(page)
    )
    return "" if known or words[0] == "-c" else f"no file {words[0]}"


def _make(words: list[str]) -> str:
    made = re.findall(r"^([\w.-]+):", (documents.ROOT / "Makefile").read_text(), re.M)
    return next((f"make knows no {word}" for word in words if word not in made), "")


_JUDGES = {"repo-builder": _ours, "python": _python, "make": _make}


@pytest.mark.parametrize("command", TYPED)
def test_what_is_typed_is_there(command: str) -> None:
    assert not refusal(command)
    subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("command", INLINE)
def test_what_a_sentence_names_is_there(command: str) -> None:
    assert not refusal(command)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("repo-builder bild specs/", "no command"),
        ("repo-builder build specs/ --jbs 2", "--jbs"),
        ("docker build . && A=1 repo-builder images biuld", "no command"),
        ("python benchmarks/speed.py > x", "no file"),
        ("python -m tests.nothing", "no module"),
        ("make dmo", "make knows no"),
    ],
)
def test_another_name_is_refused(command: str, why: str) -> None:
    assert why in refusal(command)


def test_what_is_not_run_says_why_and_is_little() -> None:
    not_run = [
        (f"{page.name}:{block.line}", block.not_run, command)
        for page in documents.PAGES
        for block, command in documents.commands(page)
        if block.not_run is not None
    ]
    assert [(place, command) for place, why, command in not_run if not why] == []
    assert len(not_run) <= MOST_NOT_RUN, "\n".join(map(str, not_run))


def test_a_missing_reason_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run -->\n    make x\n\ntext\n\n    make y\n")
    assert [(b.not_run, b.dialogue) for b in documents.blocks(page)] == [
        ("", [("make x", "")]),
        (None, [("make y", "")]),
    ]


def test_prompts_stand_in_console_blocks_alone() -> None:
    hidden = [
        f"{page.name}:{block.line}"
        for page in documents.PAGES
        for block in documents.blocks(page)
        if block.language != "console" and re.search(r"^\$ ", block.text, re.M)
    ]
    assert hidden == []


def test_a_line_that_is_no_command_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("    make x\n    frobnicate y\n")
    with pytest.raises(ValueError, match="'frobnicate y' begins with no known program"):
        list(documents.commands(page))


def table() -> list[tuple[dict[str, click.Command], str]]:
    """The commands of each row of README's table of commands, and what it says of them."""
    text = documents.PAGES[0].read_text(encoding="utf-8").partition("## Commands")[2]
    found: list[tuple[dict[str, click.Command], str]] = []
    with click.Context(cli) as context:
        for cell, says in re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.M):
            row: dict[str, click.Command | None] = {}
            for words in (span.split() for span in re.findall(r"`([^`]+)`", cell)):
                command = row[words[0]] = cli.get_command(context, words[0])
                if isinstance(command, click.Group) and words[1:]:
                    for name in re.findall(r"[\w-]+", words[1]):
                        row[f"{words[0]} {name}"] = command.get_command(context, name)
            assert [name for name, command in row.items() if command is None] == []
            found.append(({name: command for name, command in row.items() if command}, says))
    return found


def test_readme_lists_all_commands_with_options_that_they_have() -> None:
    with click.Context(cli) as context:
        names = cli.list_commands(context)
    assert set(names) <= {name for row, _ in table() for name in row}
    for row, says in table():
        has = {word for command in row.values() for one in command.params for word in one.opts}
        assert set(re.findall(r"--[\w-]+", says)) <= has, says


def test_readme_lists_the_exit_codes() -> None:
    text = documents.PAGES[0].read_text(encoding="utf-8")
    listed = re.search(r"^Exit codes: (.*?)\.", text, re.M | re.S)
    assert listed
    base = errors.RepoBuilderError
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    has = {kind.exit_code for kind in kinds if issubclass(kind, base) and kind is not base}
    assert set(map(int, re.findall(r"\d+", listed[1]))) == {*has, 130}
