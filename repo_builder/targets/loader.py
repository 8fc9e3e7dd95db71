"""Reads target files: YAML -> `extends` resolved -> shape -> rules -> frozen `Target`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from repo_builder.base import document, validate
from repo_builder.base.document import Document
from repo_builder.base.errors import Problem, SpecError, UsageError, did_you_mean
from repo_builder.targets.rules import broken_rules
from repo_builder.targets.types import Target

CATALOG = Path(__file__).parent / "catalog"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def load(extra_dir: Path | None = None) -> dict[str, Target]:
    """All targets by name: the catalog, and every `*.yaml` of `extra_dir` beside it.

    A file's stem is the target's name. `extends: NAME` takes over that target's values: mappings
    are merged, everything else is replaced. Raises SpecError with all problems of all files.
    """
    if extra_dir is not None and not extra_dir.is_dir():
        raise UsageError(f"{extra_dir}: is not a folder; --targets-dir takes one with target files")
    files: dict[str, Document] = {}
    problems: list[Problem] = []
    for folder in filter(None, (CATALOG, extra_dir)):
        for path in sorted(folder.glob("*.yaml")):
            read, found = document.read(path)
            found = found or list(_misplaced(path, read, files))
            problems += found
            if read is not None and not found:
                files[path.stem] = read
    targets: dict[str, Target] = {}
    for name in sorted(files):
        target, found = _resolve(name, files)
        problems += found
        if target is not None:
            targets[name] = target
    if problems:
        raise SpecError("the target files have problems:", sorted(set(problems), key=_position))
    return targets


def pick(targets: Mapping[str, Target], name: str) -> Target:
    """The target called `name`; a UsageError with a suggestion where there is none."""
    if name not in targets:
        raise UsageError(f"unknown target '{name}'; {did_you_mean(name, targets)}")
    return targets[name]


def _position(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line, problem.what


def _misplaced(
    path: Path, read: Document | None, known: Mapping[str, Document]
) -> Iterator[Problem]:
    """What is wrong with a file as a whole."""
    if not _NAME.fullmatch(path.stem):
        fix = "use lower-case letters, digits and dashes"
        yield Problem(f"'{path.stem}' is no name for a target", fix, str(path))
    elif path.stem in known:
        fix = f"name the file otherwise, with 'extends: {path.stem}' if it refines that one"
        yield Problem(f"there is a target '{path.stem}' already", fix, str(path))
    elif read is None or not isinstance(read.value, dict):
        fix = "see `repo-builder targets show cpu` for what it holds"
        yield Problem("must be a mapping of keys to values", fix, str(path))


def _resolve(name: str, files: Mapping[str, Document]) -> tuple[Target | None, list[Problem]]:
    """One file with what it extends, validated; None where it has problems."""
    own = files[name]
    if "name" in own.value:
        return None, [own.problem(("name",), "is the file's name", "leave it out")]
    whole, chain = Document(dict(own.value), own.places), [name]
    while (base := whole.value.pop("extends", None)) is not None:
        if not isinstance(base, str) or base not in files:
            hint = did_you_mean(str(base), files)
            return None, [own.problem(("extends",), f"unknown target '{base}'", hint)]
        if base in chain:
            loop = " -> ".join([*chain, base])
            return None, [own.problem(("extends",), f"targets that extend each other: {loop}")]
        chain.append(base)
        whole = document.overlay(files[base], whole)
    named = Document({**whole.value, "name": name}, whole.places)
    checked, problems = validate.check(Target, named)
    if checked is None:
        return None, problems
    target = cast(Target, checked)
    broken = [named.problem(*rule) for rule in broken_rules(target)]
    return (None if broken else target), broken
