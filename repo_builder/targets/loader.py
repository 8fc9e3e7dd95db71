"""Reads target files: YAML -> `extends` resolved -> shape -> rules -> frozen `Target`."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from repo_builder.errors import Problem, SpecError, UsageError, did_you_mean
from repo_builder.targets import _yaml
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
    documents: dict[str, _yaml.Document] = {}
    problems: list[Problem] = []
    for folder in filter(None, (CATALOG, extra_dir)):
        for path in sorted(folder.glob("*.yaml")):
            document, found = _yaml.read(path)
            found = found or list(_misplaced(path, document, documents))
            problems += found
            if not found:
                documents[path.stem] = document
    targets: dict[str, Target] = {}
    for name in sorted(documents):
        try:
            targets[name] = _resolve(name, documents)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError("target files have problems:", problems)
    return targets


def pick(targets: Mapping[str, Target], name: str) -> Target:
    """The target called `name`; a UsageError with a suggestion where there is none."""
    if name not in targets:
        raise UsageError(f"no target '{name}'; {did_you_mean(name, targets)}")
    return targets[name]


def _misplaced(
    path: Path, document: _yaml.Document, known: Mapping[str, _yaml.Document]
) -> Iterable[Problem]:
    """What is wrong with a file as a whole."""
    if not _NAME.fullmatch(path.stem):
        fix = "use lower-case letters, digits and dashes"
        yield Problem(f"'{path.stem}' is no name for a target", fix, str(path))
    elif path.stem in known:
        fix = f"name the file otherwise, with 'extends: {path.stem}' if it refines that one"
        yield Problem(f"there is a target '{path.stem}' already", fix, str(path))
    elif not isinstance(document.data, dict):
        fix = "see `repo-builder targets show cpu` for what it holds"
        yield Problem("must hold the keys of a target", fix, str(path))


def _resolve(name: str, documents: Mapping[str, _yaml.Document]) -> Target:
    """One document with what it extends, validated."""
    document = documents[name]

    def problem(loc: _yaml.Loc, what: str, fix: str = "") -> Problem:
        dotted = ".".join(str(step) for step in loc)
        return Problem(what, fix, document.file, document.line(loc), dotted)

    values = _inherit(name, documents, problem)
    try:
        target = _adapter().validate_json(json.dumps({**values, "name": name}), strict=True)
    except ValidationError as error:
        raise SpecError("", [_explain(detail, problem) for detail in error.errors()]) from None
    broken = [problem(*rule) for rule in broken_rules(target)]
    if broken:
        raise SpecError("", broken)
    return target


def _inherit(
    name: str, documents: Mapping[str, _yaml.Document], problem: Callable[..., Problem]
) -> dict[str, Any]:
    """The values of a document merged over those of the chain that it extends."""
    chain = [name]
    values = dict(documents[name].data)
    while (base := values.pop("extends", None)) is not None:
        if not isinstance(base, str) or base not in documents:
            hint = did_you_mean(str(base), documents)
            raise SpecError("", [problem(["extends"], f"no target '{base}'", hint)])
        if base in chain:
            loop = " -> ".join([*chain, base])
            raise SpecError("", [problem(["extends"], f"targets extend each other: {loop}")])
        chain.append(base)
        values = _merge(documents[base].data, values)
    return values


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` upon `base`, mapping by mapping; only `base` still has an `extends` to follow."""
    merged = {**base, **over}
    for key, value in over.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _merge(below, value)
    return merged


def _explain(detail: Any, problem: Callable[..., Problem]) -> Problem:
    """One of pydantic's findings in this project's words."""
    loc, kind = detail["loc"], detail["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return problem(loc, "unknown key", did_you_mean(str(loc[-1]), _keys(loc[:-1])))
    if kind == "missing":
        return problem(loc, "is missing")
    what = detail["msg"].removeprefix("Input ").replace("String should", "should")
    value = detail["input"]
    found = "" if isinstance(value, (dict, list)) else f", not {json.dumps(value)}"
    return problem(loc, what + found)


def _keys(loc: _yaml.Loc) -> list[str]:
    """The keys that a target file may have at `loc`."""
    here: Any = Target
    for step in loc:
        if isinstance(step, str) and dataclasses.is_dataclass(here):
            here = typing.get_type_hints(here)[step]
        else:
            here = typing.get_args(here)[0 if isinstance(step, int) else -1]
        here = next((t for t in typing.get_args(here) if dataclasses.is_dataclass(t)), here)
    names = [f.name for f in dataclasses.fields(here)] if dataclasses.is_dataclass(here) else []
    return [n for n in names if n != "name"] + ["extends"] if here is Target else names


@cache
def _adapter() -> TypeAdapter[Target]:
    return TypeAdapter(Target)
