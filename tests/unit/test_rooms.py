"""The house: every module in a room, no circle between files, short files, the path on one screen.

What a room may import is held by import-linter (`tool.importlinter` in pyproject.toml).
"""

from __future__ import annotations

import ast
import fnmatch
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grimp
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "repo_builder"


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of files of which each reaches every other by imports (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(file: str) -> None:
        order[file] = lowest[file] = len(order)
        path.append(file)
        for imported in sorted(imports[file]):
            if imported not in order:
                visit(imported)
            if imported in path:
                lowest[file] = min(lowest[file], lowest[imported])
        if lowest[file] == order[file]:
            group = path[path.index(file) :]
            del path[path.index(file) :]
            if len(group) > 1 or file in imports[file]:
                found.append(sorted(group))

    for file in sorted(imports):
        if file not in order:
            visit(file)
    return sorted(found)


@pytest.mark.parametrize(
    ("imports", "groups"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, [["b", "c", "d"]]),
        ({"a": {"b"}, "b": {"a"}, "c": {"a", "d"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
        ({"a": {"a"}}, [["a"]]),
    ],
)
def test_circles_are_found(imports: dict[str, set[str]], groups: list[list[str]]) -> None:
    assert circles(imports) == groups


def test_no_files_import_each_other() -> None:
    # Imports for types and inside functions count. `from package import module` is an import of
    # the module, `from package import name` one of the package's __init__.
    graph = grimp.build_graph("repo_builder", exclude_type_checking_imports=False, cache_dir=None)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    assert len(imports) > 200
    assert circles(imports) == []


def test_nothing_stands_loose_in_the_hall() -> None:
    loose = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert not loose, "belongs into a room: see docs/architecture.md"


def test_every_room_says_what_belongs_there() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


def test_every_room_is_on_the_map_and_on_one_of_nine_floors() -> None:
    project: Any = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["containers"] == ["repo_builder"])
    assert layers[0] == "__main__"  # the door
    assert len(layers[1:]) <= 9
    rooms = {name.strip() for floor in layers[1:] for name in floor.split("|")}
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert [room for room in sorted(rooms) if f"`{room.strip('()')}/`" not in page] == []


def test_files_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) <= 130


def test_the_main_path_is_on_one_screen() -> None:
    tree = ast.parse((PACKAGE / "build" / "main_path.py").read_text("utf-8"))
    (build,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
    assert build.end_lineno is not None
    assert build.end_lineno - build.lineno < 60


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    """pytest's own list leaves out folders called build, dist and venv."""
    passed_over = pytestconfig.getini("norecursedirs")
    folders = {file.parent for file in (ROOT / "tests").rglob("test_*.py")}
    names = {part for folder in folders for part in folder.relative_to(ROOT).parts}
    assert "build" in names
    assert not [n for n in sorted(names) for pattern in passed_over if fnmatch.fnmatch(n, pattern)]
