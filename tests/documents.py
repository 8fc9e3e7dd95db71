"""What README and docs show: their fenced blocks, the commands in these, and what they print.

A block is a fence with a language and, where it is a file, its name: ```python title="train.py".
A comment directly above a block, <!-- varies: REGEX -->, says what may be other on each run; a line
`...` stands for any number of lines. Runs of spaces count as one, since columns follow figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(
    r"^(?:<!-- varies: (?P<varies>[^\n]*) -->\n)?"
    r"(?P<fence>```+)(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=fence)$",
    re.M | re.S,
)
_INDENTED = re.compile(r"^ {4,}(?P<command>(?:repo-builder|make|pip|docker|python) .*)$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence, `varies` a regular expression or ''."""

    page: Path
    line: int
    language: str
    title: str
    varies: str
    text: str

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """(command, what it prints) of each line that begins with `$ `."""
        parts = re.split(r"^\$ (.*)\n", self.text, flags=re.M)[1:]
        return list(zip(parts[::2], parts[1::2], strict=True))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("fence")) + 1,
            found["language"],
            found["title"] or "",
            found["varies"] or "",
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


def commands(page: Path) -> Iterator[tuple[int, str]]:
    """(line, command) of everything to type: lines with `$ `, and code by indentation."""
    text = page.read_text(encoding="utf-8")
    typed = re.compile(r"^ *\$ (?P<command>.*)$", re.M)
    for pattern in (typed, _INDENTED):
        for found in pattern.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, found["command"].split("  #")[0].strip()


def difference(shown: str, printed: str, varies: str) -> str:
    """Why `printed` is not what is `shown`; '' where it is."""
    lines = [_plain(line, varies) for line in shown.splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in lines)
    actual = "".join(_plain(line, varies) + "\n" for line in printed.splitlines())
    return "" if re.fullmatch(pattern, actual) else f"shown:\n{shown}\nprinted:\n{printed}"


def _plain(line: str, varies: str) -> str:
    varied = re.sub(varies, "~", line) if varies else line
    return re.sub(r" +", " ", varied).strip()
