"""What README and docs show: their blocks, the commands in these, and what they print.

A block is a fence with a language and, where it is a file, its name: ```python title="train.py";
or it is indented. `console` has commands behind `$ ` and below them what they print; a line `...`
stands for any number of lines. An indented block that begins with one of PROGRAMS has commands
alone. Comments directly above a block say more of it: <!-- varies: REGEX --> what may be other on
each run, <!-- not run: REASON --> why its commands cannot run in tests, <!-- for: READER --> that
it stands in place of the story's block of the same file or command, <!-- in: FOLDER --> where its
commands are run if not in the reader's own folder. Runs of spaces count as one, since columns
follow figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAMS = (
    "cat", "cd", "cp", "curl", "dask", "docker", "export", "git", "kill", "make", "mkdir", "pip",
    "python", "repo-builder", "sed", "tritonserver",
)  # fmt: skip
_FENCE = re.compile(r"(?P<fence>```+)(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?")
_COMMENT = re.compile(r"<!-- (?P<name>varies|not run|for|in)(?:: (?P<text>.*?))? *-->")
_COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(PROGRAMS)})\b(?![./])")


@dataclass(frozen=True)
class Block:
    """A block; `line` is its first, `varies` a regular expression or ''.

    `language` is "indented" where it has no fence. `not_run` is why its commands are not run: None
    where they are, '' where the page fails to say. `reader` and `folder` are '' for all readers
    and for their own folder.
    """

    page: Path
    line: int
    language: str
    title: str
    varies: str
    not_run: str | None
    text: str
    reader: str = ""
    folder: str = ""

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """(command, what it prints) of each command; those of indented blocks print nothing.

        Raises ValueError where a line between the commands of an indented block is none.
        """
        if self.language == "indented":
            return [(command, "") for command in self._indented()]
        parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", self.text, flags=re.M)[1:]
        return list(zip(parts[::2], parts[1::2], strict=True))

    @property
    def name(self) -> str:
        """Its file, or the program and the subcommand of its first command."""
        if self.title or not self.dialogue:
            return self.title
        return " ".join(self.dialogue[0][0].split()[:2])

    def _indented(self) -> list[str]:
        lines = re.findall(r"(?:.*\\\n)*.+", self.text)
        commands = [line for line in lines if _COMMAND.match(line)]
        if commands and len(commands) < len(lines):
            strange = next(line for line in lines if line not in commands)
            raise ValueError(f"{self.page}:{self.line}: '{strange}' begins with no known program")
        return commands


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def story(page: Path, reader: str) -> list[Block]:
    """What this reader does, in its order: blocks for all, and in their place those for `reader`.

    ValueError where a block for the reader is in place of none.
    """
    everything = blocks(page)
    own = {block.name: block for block in everything if block.reader == reader != ""}
    told = [block for block in everything if not block.reader]
    if lost := own.keys() - {block.name for block in told}:
        raise ValueError(f"{page}: nothing of the story is like {sorted(lost)} for {reader}")
    return [own.get(block.name, block) for block in told]


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    said: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        if comment := _COMMENT.fullmatch(line):
            said[comment["name"]] = comment["text"] or ""
        elif fence := _FENCE.fullmatch(line):
            end = lines.index(fence["fence"], at + 1) + 1
            inside = lines[at + 1 : end - 1]
            yield _block(page, at, fence["language"], fence["title"] or "", said, inside)
        elif _opens(lines, at):
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield _block(page, at, "indented", "", said, lines[at:end])
        if not comment:
            said = {}
        at = end


def _opens(lines: list[str], at: int) -> bool:
    """Whether an indented block begins here: behind a blank line or a comment, not in a text."""
    before = lines[at - 1].strip() if at else ""
    return lines[at].startswith("    ") and (not before or before.endswith("-->"))


def _block(
    page: Path, at: int, language: str, title: str, said: dict[str, str], lines: list[str]
) -> Block:
    depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    depth = depth if language == "indented" else 0
    text = "".join(f"{line[depth:].rstrip()}\n" for line in lines)
    text = text.rstrip("\n") + "\n" if language == "indented" else text
    return Block(
        page,
        at + 1,
        language,
        title,
        said.get("varies", ""),
        said.get("not run"),
        text,
        said.get("for", ""),
        said.get("in", ""),
    )


def commands(page: Path) -> Iterator[tuple[Block, str]]:
    """Everything to type, with its block."""
    for block in blocks(page):
        if block.language in ("console", "indented"):
            for command, _ in block.dialogue:
                yield block, command


def difference(shown: str, printed: str, varies: str) -> str:
    """Why `printed` is not what is `shown`; '' where it is."""
    lines = [_plain(line, varies) for line in shown.splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in lines)
    actual = "".join(_plain(line, varies) + "\n" for line in printed.splitlines())
    return "" if re.fullmatch(pattern, actual) else f"shown:\n{shown}\nprinted:\n{printed}"


def _plain(line: str, varies: str) -> str:
    varied = re.sub(varies, "~", line) if varies else line
    return re.sub(r" +", " ", varied).strip()
