"""Live progress of steps that run side by side, and of long copies, on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base import console
from repo_builder.base.console import paint, seconds

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, TaskID


_LARGE = 1 << 25
"""Bytes below which a copy is over before anyone wonders."""

_PATIENCE_S = 1.0
"""Seconds before a copy is shown."""

_MARK = "progress: "
_TAIL = 4096
"""Bytes at the end of a log in which the last progress is looked for."""

_on_screen: list[Steps] = []
"""The steps whose bar is on the screen, where copies have their line too."""


class Steps:
    """Progress of steps that run side by side.

    On a terminal: a bar with the count of all and an estimate of the time that is left, and a line
    for each running step, with its time. Elsewhere, and for every step that has ended: one line,
    such as `[12/99] ✓ digits import 0.3s`. A context manager; nothing stays on the screen but the
    lines. Where the user wants quiet, there is nothing.
    """

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._total = self._ended = 0
        self._live: Live | None = None
        self._all: Progress | None = None
        self._running: Progress | None = None

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            _on_screen.remove(self)

    def expect(self, more: int) -> None:
        """So `more` steps are going to run, beside those that have ended."""
        self._total = self._ended + more
        if more and sys.stderr.isatty() and not console.talk.quiet:
            self._draw()

    def start(self, key: str, label: str, log: Path | None = None) -> None:
        """A step began; what it says with `tell` goes into the file `log`."""
        self._begun[key] = time.monotonic()
        if self._running:
            self._tasks[key] = self._running.add_task(label, total=None, told=_Told(log))
        console.detail(f"  {label} begins")

    def done(self, key: str, label: str, note: str = "") -> None:
        """A step ended well."""
        console.say(self._end(key, paint("✓", "green"), label, note))

    def fail(self, key: str, label: str, note: str) -> None:
        """A step failed; `note` is the reason, in one line."""
        console.say(self._end(key, paint("✗", "red"), label, note))

    def _end(self, key: str, mark: str, label: str, note: str) -> str:
        begun = self._begun.pop(key, None)
        taken = "" if begun is None else f" {paint(seconds(time.monotonic() - begun), 'dim')}"
        if self._running and key in self._tasks:
            self._running.remove_task(self._tasks.pop(key))
        self._ended += 1
        if self._all:
            self._all.update(self._all.task_ids[0], completed=self._ended)
        width = len(str(self._total))
        count = f"[{self._ended:{width}}/{self._total}] " if self._total else ""
        return f"{count}{mark} {label}{taken}" + (f"  {note}" if note else "")

    def _draw(self) -> None:
        """Show the bar, or give the one that is there its new length."""
        if self._all:
            self._all.update(self._all.task_ids[0], total=self._total)
            return
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        screen = Console(stderr=True)
        self._all = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=screen,
            speed_estimate_period=600,
        )
        self._all.add_task("all", total=self._total, completed=self._ended)
        self._running = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=screen,
        )
        self._live = Live(
            Group(self._running, self._all),
            console=screen,
            transient=True,
            redirect_stdout=True,
            redirect_stderr=True,
        )
        self._live.start()
        _on_screen.append(self)


def tell(text: str) -> None:
    """Say, in a step, how far it is; a terminal shows it beside the name until it says more."""
    print(_MARK + text, flush=True)  # a step's output is its log


class _Told:
    """What a step told last, read from its log whenever it is shown."""

    def __init__(self, log: Path | None) -> None:
        self._log = log

    def __str__(self) -> str:
        if self._log is None:
            return ""
        try:
            with self._log.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:  # it has not begun to write
            return ""
        told = (line for line in reversed(lines) if line.startswith(_MARK))
        return next(told, "").removeprefix(_MARK)


@contextlib.contextmanager
def copying(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many of `total` bytes (None: nobody knows) are done, and how many are
    left; what is given is told of every part. Nothing for small or short copies.
    """
    wanted = sys.stderr.isatty() and not console.talk.quiet and (total is None or total >= _LARGE)
    shown = _Copy(label, total) if wanted else None
    try:
        yield shown.add if shown else lambda _count: None
    finally:
        if shown:
            shown.end()


def counted(chunks: Iterable[bytes], label: str, total: int | None) -> Iterator[bytes]:
    """The chunks as they are, shown as by `copying`."""
    with copying(label, total) as copied:
        for chunk in chunks:
            yield chunk
            copied(len(chunk))


class _Copy:
    """One line: in the steps' display where that is on the screen, else of its own."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._done, self._begun = 0, time.monotonic()
        self._place: Progress | None = None
        self._own = False
        self._task: TaskID | None = None

    def add(self, count: int) -> None:
        """`count` more bytes are done."""
        self._done += count
        if time.monotonic() - self._begun < _PATIENCE_S:
            return
        of = f" of {console.megabytes(self._total)}" if self._total is not None else ""
        text = f"{self._label} {console.megabytes(self._done)}{of}"
        if self._place is None or self._task is None:
            self._place = self._screen()
            self._task = self._place.add_task(text, total=self._total, told="")
        self._place.update(self._task, description=text, completed=self._done)

    def end(self) -> None:
        """Take the line away."""
        if self._place is None or self._task is None:
            return
        if self._own:
            self._place.stop()
        else:
            self._place.remove_task(self._task)

    def _screen(self) -> Progress:
        shared = _on_screen[-1]._running if _on_screen else None
        if shared is not None:
            return shared
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        own = Progress(*columns, console=Console(stderr=True), transient=True)
        own.start()
        self._own = True
        return own
