"""What a spec's `release` means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repo_builder.spec.raw import RawSpec
from repo_builder.spec.types import OnnxSource
from repo_builder.targets import Target

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told a problem: the field, what is wrong, what to write."""

_AT = ("release", "near")
_FLOATS = ("fp32", "fp16")


def near(
    raw: RawSpec, target: Target, file: Callable[[str], Path], tell: Tell
) -> OnnxSource | None:
    """The model that the new one is brought near; `tell` is told what is wrong with it."""
    if raw.release.near is None:
        return None
    if not target.on_cpu:
        what = f"{target.name}'s toolchain writes weights anew, so that nothing would stay near"
        tell(_AT, what, "write it under `overrides` of the targets that run on a CPU")
    if raw.optimize.auto is not None:
        tell(_AT, "`auto` compares models with the source itself", "leave one of both out")
    elif raw.optimize.precision not in _FLOATS:
        what = f"rounds floats, and the precision is {raw.optimize.precision}"
        tell(_AT, what, "leave it out: most integers stay as they are by themselves")
    if raw.data.evaluation is None:
        fix = "add `data: {evaluation: {path: ..., metric: ...}}`"
        tell(_AT, "needs rows that show what it costs", fix)
    return OnnxSource(file(raw.release.near))
