"""All printing. stdout is data, stderr is talk.

Progress, notes and errors go to stderr; results (tables, JSON) go to stdout, so that a pipe gets
only the result. Colour follows NO_COLOR, FORCE_COLOR and whether stderr is a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, TextIO

from repo_builder.base.errors import OutputError, disk_fix

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


@dataclass
class Talk:
    """How much is said on stderr: `quiet` leaves warnings and errors, `verbose` adds details.

    `debug` adds the traceback of a failure.
    """

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


talk = Talk()
"""What the user asked for; the command line sets it when it starts."""


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
    """A line of talk, on stderr; not where the user wants quiet."""
    if not talk.quiet:
        _to_stderr(text)


def detail(text: str) -> None:
    """A line of talk that only who asked for more wants to read."""
    if talk.verbose:
        _to_stderr(paint(text, "dim"))


def warn(text: str) -> None:
    """A warning, on stderr."""
    _to_stderr(f"{paint('warning:', 'yellow')} {text}")


def error(text: str) -> None:
    """An error, on stderr."""
    _to_stderr(f"{paint('error:', 'red')} {text}")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
_NO_NOTES: Mapping[int, str] = MappingProxyType({})
_NO_COLOURS: Mapping[str, str] = MappingProxyType({})


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Iterable[int] = (),
    *,
    drop: Iterable[int] = (),
    below: int | None = None,
    wrap: Collection[int] = (),
    notes: Mapping[int, str] = _NO_NOTES,
    colours: Mapping[str, str] = _NO_COLOURS,
) -> str:
    """A plain table that fits the terminal.

    `right` names the columns to align right (figures). Where the room is too small, the columns of
    `drop` go, the first of them first, then the widest text column is cut with an ellipsis, or its
    text goes on below where `wrap` has it. The first column, which names the row, goes on
    below where even so it does not fit. Figures are never cut. `notes` (by
    number of the row, from 0) stand below their rows, indented, as do the texts of the column
    `below` where it goes. A cell whose text is in `colours` gets that colour. Where stdout is no
    terminal, and COLUMNS does not ask for a width, all stays.
    """
    cells = [list(header), *(list(row) for row in rows)]
    columns = list(range(len(header)))
    aligned_right = set(right)
    widths = [max(len(row[i]) for row in cells) for i in columns]
    room = _room()
    if room is not None:
        _fit(widths, columns, room, aligned_right, drop)
    lines = []
    for number, row in enumerate(cells):
        for line in _lines(row, widths, columns, wrap):
            parts = []
            for i, text in zip(columns, line, strict=True):
                padded = text.rjust(widths[i]) if i in aligned_right else text.ljust(widths[i])
                colour = colours.get(row[i]) if number else None
                parts.append(paint(padded, colour, sys.stdout) if colour else padded)
            joined = "  ".join(parts).rstrip()
            lines.append(paint(joined, "bold", sys.stdout) if number == 0 else joined)
        said = notes.get(number - 1, "").splitlines()
        if below is not None and below not in columns and number and row[below] not in ("", "-"):
            said.insert(0, f"{header[below]}: {row[below]}")
        for paragraph in said:
            lines += _wrapped(paragraph, room and room - 4, "    ")
    return "\n".join(lines)


def _fit(
    widths: list[int], columns: list[int], room: int, fixed: set[int], drop: Iterable[int]
) -> None:
    """Take `columns` away and make `widths` smaller until a line is no longer than `room`."""

    def spare() -> int:
        return room - sum(widths[i] + 2 for i in columns) + 2

    for i in drop:
        if spare() >= 0:
            break
        columns.remove(i)
    cuttable = [i for i in columns[1:] if i not in fixed]
    while spare() < 0 and any(widths[i] > _NARROWEST for i in cuttable):
        widths[max(cuttable, key=lambda i: widths[i])] -= 1
    widths[0] = max(min(widths[0], _NARROWEST), widths[0] + min(0, spare()))


def _lines(
    row: Sequence[str], widths: Sequence[int], columns: Sequence[int], wrap: Collection[int]
) -> list[list[str]]:
    """A row as the lines it takes: one, or more where the column `wrap` is wrapped."""
    cells = []
    for i in columns:
        text = row[i]
        if len(text) <= widths[i]:
            cells.append([text])
        elif i == 0 or i in wrap:
            cells.append(_wrapped(text, widths[i]))
        else:
            cells.append([text[: widths[i] - 1] + "…"])
    return [list(line) for line in zip_longest(*cells, fillvalue="")]


def fitted(text: str, indent: str = "") -> str:
    """A paragraph as lines that fit the terminal, each behind `indent`; as a table fits."""
    room = _room()
    return "\n".join(_wrapped(text, room and room - len(indent), indent))


def _room() -> int | None:
    """Columns of the terminal, 40 at least; None: any width will do."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return max(40, shutil.get_terminal_size().columns)
    return None


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    if width is None:
        return [indent + text]
    own = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(text, max(width, _NARROWEST), subsequent_indent=own)
    return [indent + line for line in lines]


def megabytes(size: int) -> str:
    """A size in bytes as a short text: `812 B`, `34.1 KB`, `2.40 MB`, `7.00 GB` (of 1000 each)."""
    if size < 1000:
        return f"{size} B"
    if size < 1_000_000:
        return f"{size / 1e3:.1f} KB"
    if size < 1_000_000_000:
        return f"{size / 1e6:.2f} MB"
    return f"{size / 1e9:.2f} GB"


def seconds(value: float) -> str:
    """A duration in seconds as a short text: `0.8s`, `12s`, `2m05s`."""
    if value < 10:
        return f"{value:.1f}s"
    if value < 60:
        return f"{value:.0f}s"
    return f"{int(value // 60)}m{int(value % 60):02d}s"
