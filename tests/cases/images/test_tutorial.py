"""docs/tutorial.md as it stands: its files, its commands and what they print, from a wheel.

Among the tests of images, which run one after the other, because its ports are those it shows.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import documents
import pytest
from wheel_kit import env

PAGE = documents.ROOT / "docs" / "tutorial.md"
APPLICATION = "python app.py"
# What the first hour may take: from the model's file to an application that answers.
COMMANDS = 8
SECONDS = 180


class Terminal:
    """Runs commands in a folder; those that end in `&` stay until the terminal is closed."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder
        path = f"{environment / 'bin'}:{os.environ['PATH']}"
        self.env = {
            **env(),
            "PATH": path,
            "COLUMNS": "100",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.behind: list[subprocess.Popen[str]] = []

    def run(self, command: str, lines: int) -> str:
        """What it prints; of one that stays, its first `lines` lines."""
        if command.endswith(" &"):
            return self._start(command.removesuffix(" &"), lines)
        ended = subprocess.run(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, cwd=self.folder, env=self.env, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, f"{command}\n{ended.stdout}"
        return ended.stdout

    def _start(self, command: str, lines: int) -> str:
        started = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=self.folder, env=self.env,
        )  # fmt: skip
        self.behind.append(started)
        assert started.stdout
        printed = [started.stdout.readline() for _ in range(lines)]
        assert printed[-1], f"{command} ended with {started.wait(30)}"
        return "".join(printed)

    def end(self, job: int) -> None:
        self.behind[job].send_signal(signal.SIGTERM)
        self.behind[job].wait(60)

    def close(self) -> None:
        for job, one in enumerate(self.behind):
            if one.poll() is None:
                self.end(job)


@contextlib.contextmanager
def terminal(folder: Path, environment: Path) -> Iterator[Terminal]:
    opened = Terminal(folder, environment)
    try:
        yield opened
    finally:
        opened.close()


def test_the_tutorial_works_as_it_is_written(
    full: Path, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if importlib.util.find_spec("skl2onnx") is None:
        unavailable("skl2onnx is not installed")
    wrong, typed, seconds = [], 0, -1.0
    begun = time.monotonic()
    with terminal(tmp_path, full) as opened:
        for block in documents.blocks(PAGE):
            if block.title:
                (tmp_path / block.title).write_text(block.text)
            if block.language != "console":
                continue
            for command, shown in block.dialogue:
                if command.startswith("kill %"):  # a job of the shell
                    opened.end(int(command.removeprefix("kill %")) - 1)
                    continue
                printed = opened.run(command, shown.count("\n"))
                if why := documents.difference(shown, printed, block.varies):
                    wrong.append(f"{PAGE}:{block.line}: {command}\n{why}")
                if seconds < 0:
                    typed += 1
                    seconds = time.monotonic() - begun if command == APPLICATION else -1
    assert not wrong, "\n\n".join(wrong)
    assert 0 < typed <= COMMANDS
    assert 0 < seconds <= SECONDS


@pytest.mark.parametrize("change", ["digits: 0.9 right\n", "digits: 0.968 right\nmore\n", ""])
def test_another_output_is_a_difference(change: str) -> None:
    shown = "digits: 0.968 right\n"
    assert documents.difference(shown, change, r"0\.\d{3}")
    assert not documents.difference(shown, "digits:  0.970 right\n", r"0\.\d{3}")
    assert not documents.difference("...\n" + shown, "one\ntwo\n" + shown, "")
