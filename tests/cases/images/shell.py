"""A shell that runs what a page shows, in folders of a test's own, and its processor time."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

_END = re.compile(r"kill %(\d+); wait %\1")
_TICKS = os.sysconf("SC_CLK_TCK")


class Shell:
    """Runs commands in a folder; those that end in `&` stay until the shell is closed."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {**env, "COLUMNS": "100"}
        self.behind: list[subprocess.Popen[str]] = []
        self._before = _ended_s()

    def run(self, command: str, lines: int) -> str:
        """What it prints; of one that stays, its first `lines` lines."""
        if job := _END.fullmatch(command):  # a job of the shell
            self.end(int(job[1]) - 1)
            return ""
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
        assert printed[-1], f"{command} ended with {started.wait(30)}\n{''.join(printed)}"
        return "".join(printed)

    def end(self, job: int) -> None:
        self.behind[job].send_signal(signal.SIGTERM)
        self.behind[job].wait(60)

    def close(self) -> None:
        for job, one in enumerate(self.behind):
            if one.poll() is None:
                self.end(job)

    @property
    def processor_s(self) -> float:
        """Seconds of one processor that all of its commands took, those behind so far."""
        running = [one.pid for one in self.behind if one.poll() is None]
        return _ended_s() - self._before + sum(map(_running_s, running))


@contextlib.contextmanager
def shell(folder: Path, env: Mapping[str, str]) -> Iterator[Shell]:
    opened = Shell(folder, env)
    try:
        yield opened
    finally:
        opened.close()


def _ended_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _running_s(process: int) -> float:
    """Of a process and all below it, also those that have ended: proc(5)."""
    place = Path("/proc", str(process))
    try:
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        below = [pid for task in place.glob("task/*/children") for pid in task.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0  # ended since it was listed
    return sum(map(int, fields[11:15])) / _TICKS + sum(_running_s(int(pid)) for pid in below)
