"""Where each field of a text protobuf stands, which protobuf's own parser does not tell.

Works on texts that protobuf has parsed; it checks nothing itself.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|[,;:])
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<open>[{<\[]) | (?P<close>[}>\]])
      | (?P<word>[^\s\#,;:{}<>\[\]"']+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Span:
    """Where a field's name starts, and from where to where its value goes."""

    name: int
    start: int
    end: int


class Positions:
    """The spans of all fields of `text`, by path.

    `input[1].dims` is the dims of the second input; an entry of a map is also `parameters["key"]`,
    and its key `parameters["key"].key`. `[0]` may be left out.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._tokens = [m for m in _TOKEN.finditer(text) if m.lastgroup != "skip"]
        self._at = 0
        self._spans: dict[str, Span] = {}
        self._entries: dict[str, str] = {}
        self._message("")

    def span(self, path: str) -> Span | None:
        """Where the field is, or None where it is not written."""
        return self._spans.get(self._resolved(path))

    def line(self, path: str) -> int:
        """The line of the field, or of the nearest field around it; 1 where there is none."""
        for candidate in _around(self._resolved(path)):
            if candidate in self._spans:
                return bisect.bisect_right(self._starts, self._spans[candidate].name)
        return 1

    def indent(self, span: Span) -> str:
        """The white space before the line of a span."""
        start = self._starts[bisect.bisect_right(self._starts, span.name) - 1]
        line = self._text[start:]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _peek(self) -> str:
        return self._tokens[self._at].group() if self._at < len(self._tokens) else ""

    def _message(self, prefix: str) -> None:
        """Read fields up to the closing bracket, which is left to the caller."""
        counts: dict[str, int] = {}
        while self._at < len(self._tokens) and self._tokens[self._at].lastgroup != "close":
            token = self._tokens[self._at]
            name = token.group()
            self._at += 1
            if self._peek() == "[":
                self._list(prefix, name, token.start(), counts)
            else:
                self._value(prefix, name, token.start(), counts)

    def _list(self, prefix: str, name: str, at: int, counts: dict[str, int]) -> None:
        opening = self._tokens[self._at]
        self._at += 1
        whole = prefix + name
        if self._peek() in ("{", "<"):
            while self._peek() in ("{", "<"):
                self._value(prefix, name, self._tokens[self._at].start(), counts)
        else:
            while self._at < len(self._tokens) and self._tokens[self._at].lastgroup != "close":
                self._at += 1
        end = self._tokens[min(self._at, len(self._tokens) - 1)].end()
        self._at += 1
        self._spans.setdefault(whole, Span(at, opening.start(), end))

    def _value(self, prefix: str, name: str, at: int, counts: dict[str, int]) -> None:
        if self._at >= len(self._tokens):
            return
        index = counts.get(name, 0)
        counts[name] = index + 1
        path = prefix + name + (f"[{index}]" if index else "")
        first = last = self._tokens[self._at]
        self._at += 1
        if first.lastgroup == "open":
            self._message(path + ".")
            last = self._tokens[min(self._at, len(self._tokens) - 1)]
            self._at += 1
        elif first.lastgroup == "string":
            while self._at < len(self._tokens) and self._tokens[self._at].lastgroup == "string":
                last = self._tokens[self._at]
                self._at += 1
        self._spans[path] = Span(at, first.start(), last.end())
        key = self._spans.get(path + ".key")
        if key is not None and first.lastgroup == "open":
            word = self._text[key.start : key.end].replace("'", '"')
            self._entries.setdefault(f"{prefix}{name}[{word}]", path)

    def _resolved(self, path: str) -> str:
        """The path as spans are kept: entries of maps by number, and no `[0]`."""
        path = path.replace("[0]", "")
        for entry, numbered in self._entries.items():
            if path.startswith(entry):
                path = numbered + path[len(entry) :]
        return path


def _around(path: str) -> Iterator[str]:
    """The path, then what contains it, from the inside out."""
    while path:
        yield path
        path = re.sub(r"\.?[^.\[\]]*(\[[^\]]*\])?$", "", path, count=1)
