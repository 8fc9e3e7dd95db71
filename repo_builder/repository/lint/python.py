"""Rules of the python backend: its model.py is read, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_README = "python_backend/README.md"
_CLASS = "TritonPythonModel"


def _sources(model: Model) -> Iterator[tuple[str, Path]]:
    if model.backend == "python" and model.file.endswith(".py"):
        for version in model.loaded:
            path = model.versions[version] / model.file
            if path.is_file():
                yield f"{version}/{model.file}", path


def _parsed(path: Path) -> ast.Module | Hit:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as failure:
        return Hit(f"is no Python: {failure.msg}", line=failure.lineno or 1)
    except (ValueError, RecursionError, MemoryError) as failure:
        return Hit(f"is no Python: {failure}", line=1)


def syntax(model: Model) -> Iterator[Hit]:
    """The model's file must be Python."""
    for file, path in _sources(model):
        parsed = _parsed(path)
        if isinstance(parsed, Hit):
            yield Hit(parsed.what, file=file, line=parsed.line)


def no_class(model: Model) -> Iterator[Hit]:
    """The model's file defines, or imports, a class TritonPythonModel."""
    for file, path in _sources(model):
        parsed = _parsed(path)
        if isinstance(parsed, ast.Module) and not _names(parsed) & {_CLASS, "*"}:
            yield Hit(f"has no class {_CLASS}", file=file, line=1)


def _names(module: ast.Module) -> set[str]:
    """Every name that some statement of the module binds, nested ones too."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


RULES = (
    Rule("python-syntax", "error", "backend", _README, syntax),
    Rule("python-class", "error", "backend", _README, no_class),
)
