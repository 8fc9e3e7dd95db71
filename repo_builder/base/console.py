"""All printing. stdout is data, stderr is talk.

Progress, notes and errors go to stderr; results (tables, JSON) go to stdout, so that a pipe gets
only the result. Colour follows NO_COLOR, FORCE_COLOR and whether stderr is a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from repo_builder.base.errors import OutputError, disk_fix

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


def colour_wanted(stream: TextIO) -> bool:
    """Whether `stream` gets colour: NO_COLOR wins, then FORCE_COLOR, then being a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in `colour` where `stream` (stderr by default) takes colour, else as it is."""
    if not colour_wanted(stream or sys.stderr):
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def say(text: str) -> None:
    """A line of talk, on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """A warning, on stderr."""
    say(f"{paint('warning:', 'yellow')} {text}")


def error(text: str) -> None:
    """An error, on stderr."""
    say(f"{paint('error:', 'red')} {text}")


def out(text: str) -> None:
    """A line of the result, on stdout. OutputError where stdout takes no more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has enough; click ends quietly
        raise
    except OSError as failure:
        sys.stdout = None  # else Python tries again when it ends
        raise OutputError(f"stdout: {failure.strerror}; {disk_fix(failure)}") from None


def out_json(value: Any) -> None:
    """The result as JSON with sorted keys, on stdout."""
    out(json.dumps(value, indent=2, sort_keys=True))


_NARROWEST = 8


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A plain table that fits the terminal: the widest text column is cut with an ellipsis.

    `right` names the columns to align right (figures); those are never cut, nor is the first,
    which names the row: where even so it does not fit, lines are too long. Where stdout is no
    terminal, and COLUMNS does not ask for a width, nothing is cut.
    """
    cells = [list(header), *(list(row) for row in rows)]
    aligned_right = set(right)
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        room = max(40, shutil.get_terminal_size().columns) - 2 * (len(widths) - 1)
        cuttable = [i for i in range(1, len(widths)) if i not in aligned_right]
        while sum(widths) > room and any(widths[i] > _NARROWEST for i in cuttable):
            widths[max(cuttable, key=lambda i: widths[i])] -= 1
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for i, cell in enumerate(row):
            text = cell if len(cell) <= widths[i] else cell[: widths[i] - 1] + "…"
            parts.append(text.rjust(widths[i]) if i in aligned_right else text.ljust(widths[i]))
        line = "  ".join(parts).rstrip()
        lines.append(paint(line, "bold", sys.stdout) if number == 0 else line)
    return "\n".join(lines)


def megabytes(size: int) -> str:
    """A size in bytes as a short text: `812 B`, `34.1 KB`, `2.40 MB` (powers of 1000)."""
    if size < 1000:
        return f"{size} B"
    if size < 1_000_000:
        return f"{size / 1e3:.1f} KB"
    return f"{size / 1e6:.2f} MB"


def seconds(value: float) -> str:
    """A duration in seconds as a short text: `0.8s`, `12s`, `2m05s`."""
    if value < 10:
        return f"{value:.1f}s"
    if value < 60:
        return f"{value:.0f}s"
    return f"{int(value // 60)}m{int(value % 60):02d}s"


class Steps:
    """Live progress of steps that run side by side, on stderr.

    On a terminal: a line for each running step, with its time. Elsewhere, and for every step that
    has ended: one line. A context manager; nothing stays on the screen but the lines.
    """

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._live: Progress | None = None

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def start(self, key: str, label: str) -> None:
        """A step began."""
        self._begun[key] = time.monotonic()
        if sys.stderr.isatty():
            self._tasks[key] = self._progress().add_task(label, total=None)

    def done(self, key: str, label: str, note: str = "") -> None:
        """A step ended well."""
        self._end(key, paint("✓", "green"), label, note)

    def fail(self, key: str, label: str, note: str) -> None:
        """A step failed; `note` is the reason, in one line."""
        self._end(key, paint("✗", "red"), label, note)

    def _end(self, key: str, mark: str, label: str, note: str) -> None:
        begun = self._begun.pop(key, None)
        taken = "" if begun is None else f"  {paint(seconds(time.monotonic() - begun), 'dim')}"
        if self._live and key in self._tasks:
            self._live.remove_task(self._tasks.pop(key))
        say(f"{mark} {label}{taken}" + (f"  {note}" if note else ""))

    def _progress(self) -> Progress:
        if self._live is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=True,
                redirect_stderr=True,
            )
            self._live.start()
        return self._live
