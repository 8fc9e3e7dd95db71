"""What a spec's `release` means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repo_builder.spec.raw import RawSpec
from repo_builder.spec.released import ID, Released
from repo_builder.spec.types import OnnxSource
from repo_builder.targets import Target

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told a problem: the field, what is wrong, what to write."""

_AT = ("release", "near")
_FLOATS = ("fp32", "fp16")


def near(
    raw: RawSpec, target: Target, file: Callable[[str], Path], tell: Tell
) -> OnnxSource | Released | None:
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
    return _named(raw.release.near, raw.release.registry, target, file, tell)


def _named(
    name: str, registry: str | None, target: Target, file: Callable[[str], Path], tell: Tell
) -> OnnxSource | Released | None:
    if ID.fullmatch(name):
        if registry is not None:
            return Released(name, file(registry), target.name)
        tell(_AT, f"'{name}' names a release and no registry", "add `registry: FOLDER`")
        return None
    if registry is not None:
        fix = "leave it out, or write `near: NAME:VERSION`, such as digits:1.0.0"
        tell(("release", "registry"), f"is of no use: {name} is a file", fix)
    path = file(name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        tell(_AT, f"{what}: {name}", f"paths are relative to {file('')}/")
    return OnnxSource(path)
