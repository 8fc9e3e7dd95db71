"""YAML files read with the line of every value, and checked against a pydantic type.

Only plain data is read: no tags, no merge keys, no recursion, bounded size. All problems of a
document are found in one pass, each with file, line, field and what to write instead.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from repo_builder.errors import Problem, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from yaml.nodes import Node

MAX_BYTES = 1_000_000
_MAX_NODES = 100_000
_TAG = "tag:yaml.org,2002:"

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
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1 if failure.problem_mark else 0
        return None, [Problem(f"not YAML: {failure.problem}", failure.note or "", name, line)]
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        return None, [Problem(f"not YAML: {' '.join(str(failure).split())}", "", name)]
    reader = _Reader(name)
    value = {} if node is None else reader.convert(node, ())
    return Document(value, reader.places), reader.problems


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Path_, Place] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

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
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            self._problem(node, path, f"the YAML tag {node.tag} is not allowed", "write plain data")
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
            at = (*path, key)
            if key in result:
                what = f"'{key}' is written twice (first on line {self.places[at].line})"
                self._problem(key_node, at, what, "keep one")
                continue
            self.places[at] = Place(self.name, key_node.start_mark.line + 1)
            result[key] = self.convert(value_node, at)
        return result

    def _scalar(self, node: Any, path: Path_) -> Any:
        from yaml.constructor import ConstructorError, SafeConstructor

        kind = node.tag.removeprefix(_TAG)
        construct = SafeConstructor()
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return construct.construct_yaml_bool(node)
            if kind == "int":
                return construct.construct_yaml_int(node)
            if kind == "float":
                return construct.construct_yaml_float(node)
        except (ConstructorError, ValueError, OverflowError, KeyError) as failure:
            self._problem(node, path, f"not a number: {failure}", "")
            return None
        if kind in ("str", "timestamp", "value"):
            return node.value
        self._problem(node, path, f"the YAML tag {node.tag} is not allowed", "write plain data")
        return None

    def _problem(self, node: Node, path: Path_, what: str, fix: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(what, fix, self.name, line, field_name(path)))


def overlay(below: Document, above: Document) -> Document:
    """`above` laid over `below`: mappings merge key by key, anything else of `above` replaces."""
    places = dict(below.places)

    def merge(low: Any, high: Any, path: Path_) -> Any:
        if not (isinstance(low, dict) and isinstance(high, dict)):
            for old in [p for p in places if p[: len(path)] == path]:
                del places[old]
            places.update({p: at for p, at in above.places.items() if p[: len(path)] == path})
            return high
        places[path] = above.place(path)
        return {
            key: merge(low[key], high[key], (*path, key))
            if key in low and key in high
            else low[key]
            if key in low
            else merge(None, high[key], (*path, key))
            for key in (*low, *(k for k in high if k not in low))
        }

    return Document(merge(below.value, above.value, ()), places)


def part(document: Document, path: Path_) -> Document:
    """The part of a document below `path`, as a document of its own."""
    value = document.value
    for step in path:
        value = value[step]
    size = len(path)
    places = {p[size:]: at for p, at in document.places.items() if p[:size] == path}
    return Document(value, places)


def check(model: type[BaseModel], document: Document) -> tuple[BaseModel | None, list[Problem]]:
    """Validate a document against a pydantic model; None and all problems where it does not fit."""
    from pydantic import ValidationError

    if not isinstance(document.value, dict):
        return None, [document.problem((), "must be a mapping of keys to values")]
    try:
        return model.model_validate(document.value), []
    except ValidationError as failure:
        return None, _problems(model, document, failure)


def _problems(
    model: type[BaseModel], document: Document, failure: ValidationError
) -> list[Problem]:
    problems = []
    for item in failure.errors(include_url=False):
        path = _own_path(document.value, item["loc"])
        kind = item["type"]
        if kind == "extra_forbidden":
            known = _known_keys(model, path[:-1])
            what, fix = "unknown key", did_you_mean(str(path[-1]), known)
        elif kind == "missing":
            path = (*path, item["loc"][-1])
            what, fix = "is missing", f"write `{path[-1]}: ...`"
        elif kind == "value_error":
            what, _, fix = str(item["ctx"]["error"]).partition("; ")
        else:
            what = item["msg"][0].lower() + item["msg"][1:]
            what, fix = f"{what}, not {_short(item['input'])}", ""
            if kind == "literal_error" and isinstance(item["input"], str):
                words = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
                what, fix = f"unknown value '{item['input']}'", did_you_mean(item["input"], words)
        problems.append(document.problem(path, what, fix))
    return sorted(set(problems))


def _own_path(value: Any, location: tuple[str | int, ...]) -> Path_:
    """Pydantic's location less what is no key of ours, such as the name of a union's branch."""
    path: list[str | int] = []
    for step in location:
        inside = step in value if isinstance(value, dict) else False
        if isinstance(value, list) and isinstance(step, int):
            inside = step < len(value)
        if inside:
            path.append(step)
            value = value[step]
    return tuple(path)


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """The keys that the model allows at `path`."""
    current: Any = model
    for step in path:
        fields = getattr(current, "model_fields", None)
        annotation = fields[step].annotation if fields and step in fields else current
        current = _inner_model(annotation)
    fields = getattr(current, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _inner_model(annotation: Any) -> Any:
    """The pydantic model inside Optional, list, or dict annotations."""
    if hasattr(annotation, "model_fields"):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict, Mapping):
        for argument in reversed(typing.get_args(annotation)):
            inner = _inner_model(argument)
            if inner is not None:
                return inner
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
