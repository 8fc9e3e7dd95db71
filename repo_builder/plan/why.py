"""Why a step runs again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repo_builder.plan.types import Made, Node


def why(node: Node, last: Mapping[str, Any] | None, step_of: Mapping[str, str]) -> str:
    """Why a step runs again: what differs between its recipe and that of the last good build.

    `last` is the old recipe, `step_of` maps the keys of this plan to step names, so that an input
    that is made again is told by the name of its step. "" where the recipes are equal.
    """
    if last is None:
        return "not built before"
    reasons = []
    if last.get("version") != node.recipe["version"]:
        reasons.append(f"step version {last.get('version')} -> {node.recipe['version']}")
    for kind in ("params", "tools"):
        old, new = last.get(kind) or {}, node.recipe[kind]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                reasons.append(f"{name} {_said(old.get(name))} -> {_said(new.get(name))}")
    old_inputs = last.get("inputs") or {}
    for name, value in node.inputs.items():
        old = old_inputs.get(name)
        if isinstance(value, Made):
            if old != value.key:
                reasons.append(f"{step_of.get(value.key, name)} runs again")
            continue
        before = old if isinstance(old, Mapping) else {}
        for file, (path, sha256) in value.files.items():
            if before.get(file) != sha256:
                reasons.append(f"{path.name} {'changed' if file in before else 'is new'}")
    return ", ".join(reasons)


def _said(value: object) -> str:
    return "none" if value is None else str(value)
