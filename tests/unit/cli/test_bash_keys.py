"""What the Tab key gives in a real bash, on a terminal of its own."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from test_completion import files

from repo_builder.targets.loader import CATALOG

_LIMIT_S = 60.0
_SHOW = "\x18\x10"
"""Ctrl-X Ctrl-P: prints the line that is being typed."""
_SETUP = """
bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'
bind 'set completion-query-items -1'; bind 'set enable-bracketed-paste off'
bind -x '"\\C-x\\C-p": printf "\\nLINE<%s>\\n" "$READLINE_LINE"'
PS1=; eval "$(repo-builder completion bash)"; echo IT''IS READY
"""


class Bash:
    """An interactive bash in `folder`, with our completion."""

    def __init__(self, folder: Path, command: Path) -> None:
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            root = str(Path(__file__).parents[3])
            env = {"PATH": path, "PYTHONPATH": root, "TERM": "dumb", "INPUTRC": "/dev/null"}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)  # noqa: S606
        os.write(self._terminal, _SETUP.encode())
        self._until(r"ITIS READY")

    def tab(self, typed: str) -> tuple[str, list[str]]:
        """The line after Tab was pressed behind `typed`, and the words that were listed."""
        os.write(self._terminal, f"\x15{_SHOW}".encode())
        self._until(r"LINE<>\r?\n")
        os.write(self._terminal, f"{typed}\t{_SHOW}".encode())
        listed, line = self._until(r"(?s)(.*)LINE<([^\n]*)>\r?\n").groups()
        return line, listed.replace(typed, "").split()

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def _until(self, pattern: str) -> re.Match[str]:
        said, deadline = "", time.monotonic() + _LIMIT_S
        while not (found := re.search(pattern, said)):
            left = deadline - time.monotonic()
            assert left > 0, said
            if select.select([self._terminal], [], [], left)[0]:
                said += os.read(self._terminal, 65536).decode()
        return found


@pytest.fixture(scope="module")
def bash(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[Bash]:
    if shutil.which("bash") is None:
        unavailable("bash is not installed")
    folder = tmp_path_factory.mktemp("typed")
    files(folder)
    (folder / "mine@home").touch()  # what an unquoted *@* would become
    command = tmp_path_factory.mktemp("bin") / "repo-builder"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'repo-builder'\n"
        "from repo_builder.__main__ import main\nmain()\n"
    )
    command.chmod(0o755)
    started = Bash(folder, command)
    yield started
    started.end()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("pl", "plan "),
        ("build --target cpu-", "build --target cpu-openvino "),
        ("build --target=cpu-", "build --target=cpu-openvino "),
        ("build specs --only dig", "build specs --only digits@* "),
        ("build specs --only digits@cpu-", "build specs --only digits@cpu-openvino "),
        ("build specs --only=digits@cpu-", "build specs --only=digits@cpu-openvino "),
        ("build specs --only '*@cpu-", "build specs --only '*@cpu-openvino' "),
        ("build specs --only *@cpu-", "build specs --only *@cpu-openvino "),
        ("build specs/a", "build specs/a.yaml "),
        (
            "targets tune-power jetson-orin-nx --mode M",
            "targets tune-power jetson-orin-nx --mode MAXN ",
        ),
        ("serve build/cpu --model d", "serve build/cpu --model digits "),
        ("infer v", "infer vad "),
    ],
)
def test_tab_ends_the_word(bash: Bash, typed: str, line: str) -> None:
    assert bash.tab(f"repo-builder {typed}")[0] == f"repo-builder {line}"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("cache ", ["du", "verify", "gc"]),
        ("build specs --only ", ["*@*", "digits@*", "shapes@*"]),
        ("build specs/b.yaml --only ", ["*@*", "shapes@*"]),
        ("build specs --only digits@", sorted(f"@{file.stem}" for file in CATALOG.glob("*.yaml"))),
        ("targets tune-power jetson-orin-nx --mode 1", ["10W", "15W"]),
        ("bild --t", []),
    ],
)
def test_tab_lists_what_may_follow(bash: Bash, typed: str, words: list[str]) -> None:
    line, listed = bash.tab(f"repo-builder {typed}")
    assert sorted(listed) == sorted(words)
    assert line.startswith(f"repo-builder {typed}")
