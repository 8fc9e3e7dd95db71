"""What a Python file imports from beside it, found by reading, never by running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

Imports = list[tuple[int, str, list[str]]]
"""Imports of a file: level (dots before the name), module, and the names taken from it."""


def beside(file: Path, read: Callable[[Path], Imports]) -> list[PurePosixPath]:
    """`file` and every file that it imports from its folder, also through others, by name there.

    `read` gives the imports of a file (`imports_of`, or what is remembered of that). Modules of
    Python's own library win over files of the same name, as they do when the net is made. Names
    that a program puts together while it runs are not seen.
    """
    folder = file.parent
    found: dict[PurePosixPath, None] = {}
    waiting = [PurePosixPath(file.name)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = None
        for level, module, names in read(folder / name):
            waiting += _files(folder, name, level, module, names)
    return sorted(found)


def imports_of(file: Path) -> Imports:
    """All imports of a file, wherever they stand in it; [] where it is no Python: running it tells.

    OSError where it cannot be read.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: Imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return found


def _files(
    folder: Path, importer: PurePosixPath, level: int, module: str, names: list[str]
) -> Iterator[PurePosixPath]:
    """The files of `folder` that one import of the file `importer` reads."""
    parts = module.split(".") if module else []
    if level == 0 and parts[0] in sys.stdlib_module_names:
        return
    base = PurePosixPath()
    if level:
        package = importer.parent.parts
        if level - 1 > len(package):
            return
        base = PurePosixPath(*package[: len(package) - level + 1])
    for count in range(1, len(parts) + 1):
        yield from _module(folder, base.joinpath(*parts[:count]))
    for name in names:
        yield from _module(folder, base.joinpath(*parts, name))


def _module(folder: Path, name: PurePosixPath) -> Iterator[PurePosixPath]:
    """The file of a module or package of that name, where there is one; a package wins."""
    if not name.name.isidentifier():  # `from nets import *`
        return
    package = name / "__init__.py"
    if (folder / package).is_file():
        yield package
    elif (folder / name.with_suffix(".py")).is_file():
        yield name.with_suffix(".py")
