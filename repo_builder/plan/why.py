"""Why a step runs again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from repo_builder.plan.types import ArtifactRef, Input, Node


def why(node: Node, last: Mapping[str, Any] | None, step_of: Mapping[str, str]) -> str:
    """Why a step runs again: what differs between its recipe and that of the last good build.

    `last` is the old recipe, `step_of` maps the keys of this plan to step names, so that an input
    that has another key is told by the name of its step. "" where the recipes are equal.
    """
    if last is None:
        return "not built before"
    reasons = []
    if last.get("version") != node.recipe["version"]:
        reasons.append(f"step version {last.get('version')} -> {node.recipe['version']}")
    for kind in ("params", "tools"):
        reasons += _changes(last.get(kind) or {}, node.recipe[kind])
    before = last.get("inputs") or {}
    for name in sorted({*before, *node.inputs}):
        reasons += _input_changes(name, before.get(name), node.inputs.get(name), step_of)
    return ", ".join(reasons)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """What differs between two mappings, the inner ones by their own keys: `net.kwargs.width`."""
    for name in sorted({*old, *new}):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _changes(was, now, f"{of}{name}.")
        elif was != now:
            yield f"{of}{name} {_text(was)} -> {_text(now)}"


def _input_changes(
    name: str, before: object, now: Input | None, step_of: Mapping[str, str]
) -> list[str]:
    if now is None:
        return [f"{name} is no longer given"]
    if isinstance(now, ArtifactRef):
        return [] if before == now.key else [f"{step_of.get(now.key, name)} changed"]
    known = before if isinstance(before, Mapping) else {}
    gone = [f"{file} is gone" for file in known if file not in now.files]
    return gone + [
        f"{path.name} {'changed' if file in known else 'is new'}"
        for file, (path, sha256) in now.files.items()
        if known.get(file) != sha256
    ]


def _text(value: object) -> str:
    return "none" if value is None else str(value)
