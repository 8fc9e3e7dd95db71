"""Disks that refuse, and processes that are killed at every instant: real ones, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn


@contextmanager
def small(folder: Path, kilobytes: int, unavailable: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A disk of its own at `folder`, with room for so much; needs the right to mount."""
    folder.mkdir()
    options = f"size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left of a disk."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return path


@contextmanager
def read_only(folder: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Path]:
    """The existing `folder`, with what is in it, where nothing can be written."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    bind = ["mount", "--bind", str(folder), str(folder)]
    done = subprocess.run(bind, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"cannot make a read-only mount: {done.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def killed_at_every_instant(action: Callable[[], object]) -> Iterator[int]:
    """Run `action` in a process that is killed (-9) before its first file operation; then in one
    killed before its second; and so on, until one comes to its end. Yields after each death.
    """
    for instant in range(1, 10_000):
        child = os.fork()
        if child == 0:
            _die_before(instant)
            status = 1
            try:
                action()
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield instant
    raise AssertionError("the action does not end")


def _die_before(instant: int) -> None:
    left = [instant]

    def count(event: str, _: tuple[Any, ...]) -> None:
        if event == "open" or event.startswith(("os.", "fcntl.")):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
