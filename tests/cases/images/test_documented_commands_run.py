"""The commands and programs of README and docs, extracted and run, page by page.

Each page has a folder of its own with what its reader has (page_settings.py). What is shown is
compared with what is printed; where nothing is shown, the command must succeed. Steps of workflows
are commands too, and in Python what stands behind `print(...)  # ` is shown. What cannot run here
says so in the page, with the reason, and is judged by its names
(tests/unit/test_documented_commands.py). The tutorial has a test of its own.

Among the tests of images, which run one after the other, because its ports are those it shows.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import documents
import pytest
import yaml
from page_settings import BUILD, OTHERWISE, SETTINGS, Examples
from terminal import Terminal, engine

REGISTRY = "registry.example:5000"
_SAID = re.compile(r"print\(.*\)  # (.*)")


@contextlib.contextmanager
def terminal(
    page: Path, full: Path, cache: Path, folder: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Terminal, dict[str, str]]]:
    """A terminal in which the page can begin, and what was run there already."""
    setting = SETTINGS.get(page.name, OTHERWISE)
    done = {}
    examples: Examples | None = request.getfixturevalue("examples") if setting.builds else None
    if examples and page.name == "README.md":
        opened, done = examples.opened, {BUILD: examples.printed}
    else:
        opened = Terminal(folder, full, cache, setting.others)
        setting.begin(opened)
    with contextlib.ExitStack() as stack:
        if setting.engine:
            world = request.getfixturevalue("world")
            stack.enter_context(engine(world, opened, REGISTRY))
        stack.callback(opened.close)
        yield opened, done


def dialogue(block: documents.Block) -> list[tuple[str, str]]:
    """(command, what is shown of what it prints) of a block, or (program, ...) of Python."""
    if block.not_run is not None or block.title:
        return []
    if block.language == "python":
        said = _SAID.findall(block.text)
        return [(block.text, "".join(f"...\n{line}\n" for line in said) + "..." if said else "")]
    if block.language == "yaml":
        content = yaml.safe_load(block.text)
        steps = content if isinstance(content, list) else []  # a spec has keys, a workflow steps
        return [(step["run"], "") for step in steps if "run" in step]
    return block.dialogue if block.language in ("console", "indented") else []


PAGES = [
    page
    for page in documents.PAGES
    if page.name != "tutorial.md" and any(map(dialogue, documents.blocks(page)))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_it_shows(
    page: Path, full: Path, cache: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = SETTINGS.get(page.name, OTHERWISE).before_python
    wrong = []
    with terminal(page, full, cache, tmp_path, request) as (opened, done):
        for block in documents.blocks(page):
            if block.title:
                (opened.place / block.title).parent.mkdir(exist_ok=True)
                (opened.place / block.title).write_text(block.text)
            for command, shown in dialogue(block):
                if block.language == "python":
                    printed = opened.python(before + command)
                else:
                    fails = shown.startswith("error: ")
                    printed = done.get(command) or opened.run(command, fails=fails)
                text = shown.rstrip("\n")
                if text and (why := documents.difference(text, printed, block.varies)):
                    wrong.append(f"{page}:{block.line}: {command}\n{why}")
    assert not wrong, "\n\n".join(wrong)
