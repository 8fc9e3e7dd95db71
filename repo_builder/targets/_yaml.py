"""Plain YAML with the line of every value, for messages that point at it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from repo_builder.errors import Problem

_SIZE_LIMIT = 1_000_000
_TAGS = tuple(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")
)

Loc = Sequence["str | int"]


class Document(NamedTuple):
    """A parsed file: its values, and what is needed to find their lines again."""

    file: str
    data: Any
    root: yaml.Node | None

    def line(self, loc: Loc) -> int:
        """The line of the value at `loc`, or of the nearest part of the file that holds it."""
        node, line = self.root, 1
        for step in loc:
            if isinstance(node, yaml.MappingNode):
                pair = next((p for p in node.value if p[0].value == str(step)), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                if step >= len(node.value):
                    break
                node = node.value[step]
                line = node.start_mark.line + 1
        return line


def read(path: Path) -> tuple[Document, list[Problem]]:
    """Parse one file; what keeps it from being plain data comes back as problems."""
    file = str(path)
    empty = Document(file, None, None)
    try:
        raw = path.read_bytes()
        if len(raw) > _SIZE_LIMIT:
            return empty, [Problem(f"is {len(raw)} bytes; a target file is small", file=file)]
        loader = yaml.CSafeLoader(raw.decode("utf-8"))
        root = loader.get_single_node()
        problems = [] if root is None else list(_unplain(root, file))
        data = None if root is None or problems else loader.construct_document(root)
    except OSError as error:
        return empty, [Problem(f"cannot be read: {error.strerror}", file=file)]
    except UnicodeDecodeError as error:
        return empty, [Problem(f"is not UTF-8 text: {error.reason}", file=file)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = mark.line + 1 if mark else 0
        return empty, [Problem(f"is not YAML: {error.problem}", file=file, line=where)]
    except yaml.YAMLError as error:
        return empty, [Problem(f"is not YAML: {error}".splitlines()[0], file=file)]
    return Document(file, data, root), problems


def _unplain(root: yaml.Node, file: str) -> Iterator[Problem]:
    """Tags, keys given twice, and aliases (a node met twice)."""
    met: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        line = node.start_mark.line + 1
        if id(node) in met:
            yield Problem("anchors and aliases are not allowed", "write it out", file, line)
            continue
        met.add(id(node))
        if node.tag not in _TAGS:
            yield Problem(f"'{node.tag}' is not allowed", "write a plain value", file, line)
        if isinstance(node, yaml.SequenceNode):
            todo.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    yield Problem("a key must be a word", file=file, line=line)
                    continue
                if key.value in keys:
                    where = key.start_mark.line + 1
                    yield Problem("is given twice", "keep one", file, where, key.value)
                keys.add(key.value)
                todo.append(value)
