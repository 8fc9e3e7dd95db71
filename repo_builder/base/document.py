"""YAML files read with the line of every value.

Only plain data is read: no tags, no merge keys, no recursion, bounded size and depth. What is not
plain is a problem with file, line, field and what to write instead; the rest is read all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from repo_builder.base.errors import Problem

if TYPE_CHECKING:
    from yaml.nodes import Node

MAX_BYTES = 1_000_000
_MAX_NODES = 100_000
_MAX_DEPTH = 50
_MAX_DIGITS = 100
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null", "timestamp", "value")

Path_: TypeAlias = "tuple[str | int, ...]"


@dataclass(frozen=True)
class Place:
    """A line of a file, as users are told it."""

    file: str
    line: int


@dataclass
class Document:
    """Plain data and the place of every key and item in it, by path."""

    value: Any
    places: dict[Path_, Place]

    def place(self, path: Path_) -> Place:
        """The place of `path`, or of the nearest thing around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place("", 0))

    def problem(self, path: Path_, what: str, fix: str = "") -> Problem:
        """A problem at `path`, with its file, line and field."""
        place = self.place(path)
        return Problem(what, fix, place.file, place.line, field_name(path))


def field_name(path: Path_) -> str:
    """`("data", "evaluation", 0)` -> `data.evaluation[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read(path: Path) -> tuple[Document | None, list[Problem]]:
    """Read one YAML file; the document is None where it cannot be read at all."""
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            return None, [
                Problem(f"larger than {MAX_BYTES // 1000} KB", "a spec holds no data", name)
            ]
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as failure:
        return None, [Problem(f"not UTF-8 text (byte {failure.start})", "save it as UTF-8", name)]
    except OSError as failure:
        return None, [Problem(failure.strerror or str(failure), "", name)]
    return parse(text, name)


def parse(text: str, name: str) -> tuple[Document | None, list[Problem]]:
    """Parse YAML text; `name` is the file's name in problems."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        deep = _too_deep(yaml.parse(text, Loader=loader))
        if deep:
            return None, [Problem("nested too deeply", "write it flatter", name, deep)]
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1 if failure.problem_mark else 1
        line = min(line, text.count("\n") + 1)
        return None, [Problem(f"not YAML: {failure.problem}", failure.note or "", name, line)]
    except yaml.YAMLError as failure:
        return None, [Problem(f"not YAML: {' '.join(str(failure).split())}", "", name)]
    reader = _Reader(name)
    reader.places[()] = Place(name, 1)
    value = {} if node is None else reader.convert(node, ())
    return Document(value, reader.places), reader.problems


def _too_deep(events: Iterable[Any]) -> int:
    """The line where collections nest deeper than any spec does; 0 where they do not.

    Events come one by one; composing them into nodes recurses in C, and would end the process.
    """
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return 0


class _Reader:
    def __init__(self, name: str) -> None:
        from yaml.constructor import SafeConstructor

        self.name = name
        self.places: dict[Path_, Place] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0
        self._construct = SafeConstructor()

    def convert(self, node: Node, path: Path_) -> Any:
        import yaml

        self.places.setdefault(path, Place(self.name, node.start_mark.line + 1))
        self._count += 1
        if self._count == _MAX_NODES:
            self._problem(node, path, "expands to too many values", "write fewer aliases")
        if self._count >= _MAX_NODES:
            return None
        if id(node) in self._open:
            self._problem(node, path, "an anchor that contains itself", "write the values out")
            return None
        if len(path) > _MAX_DEPTH:  # aliases of aliases
            self._problem(node, path, "nested too deeply", "write the values out")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            self._tagged(node, path)
            return None
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any, path: Path_) -> dict[str, Any]:
        import yaml

        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "a key that is not a word", "use a plain word")
                continue
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                self._problem(key_node, path, "'<<' is not allowed", "write the values out")
                continue
            if key_node.tag.removeprefix(_TAG) not in _SCALARS:
                self._tagged(key_node, path)
                continue
            at = (*path, key)
            if key in result:
                what = f"'{key}' is written twice (first on line {self.places[at].line})"
                self._problem(key_node, at, what, "keep one")
                continue
            self.places[at] = Place(self.name, key_node.start_mark.line + 1)
            result[key] = self.convert(value_node, at)
        return result

    def _scalar(self, node: Any, path: Path_) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind not in _SCALARS:
            self._tagged(node, path)
            return None
        if kind == "null":
            return None
        if kind not in ("bool", "int", "float"):
            return node.value
        try:
            if len(node.value) > _MAX_DIGITS:
                raise ValueError(f"more than {_MAX_DIGITS} digits")
            return getattr(self._construct, f"construct_yaml_{kind}")(node)
        except (ValueError, OverflowError, LookupError) as failure:
            what = "true or false" if kind == "bool" else "a number"
            self._problem(node, path, f"not {what}: {failure}", "write it in quotes")
            return None

    def _tagged(self, node: Node, path: Path_) -> None:
        self._problem(node, path, f"the YAML tag {node.tag} is not allowed", "write plain data")

    def _problem(self, node: Node, path: Path_, what: str, fix: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(what, fix, self.name, line, field_name(path)))


def overlay(below: Document, above: Document) -> Document:
    """`above` laid over `below`: mappings merge key by key, anything else of `above` replaces."""
    replaced: set[Path_] = set()

    def merge(low: Any, high: Any, path: Path_) -> Any:
        if not (isinstance(low, dict) and isinstance(high, dict)):
            replaced.add(path)
            return high
        both = dict(low)
        for key, value in high.items():
            both[key] = merge(low[key], value, (*path, key)) if key in low else value
        return both

    value = merge(below.value, above.value, ())
    places = {
        path: place
        for path, place in below.places.items()
        if not any(path[:size] in replaced for size in range(len(path) + 1))
    }
    return Document(value, {**places, **above.places})


def part(document: Document, path: Path_) -> Document:
    """The part of a document below `path`, as a document of its own."""
    value = document.value
    for step in path:
        value = value[step]
    size = len(path)
    places = {p[size:]: at for p, at in document.places.items() if p[:size] == path}
    return Document(value, places)


def pick(document: Document, keys: Iterable[str]) -> Document:
    """A mapping with only those of its keys."""
    value = {key: document.value[key] for key in keys if key in document.value}
    places = {path: at for path, at in document.places.items() if not path or path[0] in value}
    return Document(value, places)
