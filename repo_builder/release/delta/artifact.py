"""Deltas between the files of two versions of an artifact: a model's folder as a device has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from repo_builder.release.delta.make import Made, make

Files: TypeAlias = Mapping[str, tuple[str, Path]]
"""POSIX path below the model's folder -> (sha256, where the content lies, under any name)."""


def between(old: Files, new: Files, folder: Path) -> dict[str, Made]:
    """Write a delta for each file of `new` that has one, into `folder`; path -> what was made.

    A delta is called `BASE-RESULT`, by the sha256 of both. Files are paired by their paths, less
    Triton's number of the version; equal files need none, and of some it is not worth while.
    """
    paired = {_place(path): path for path in old}
    made: dict[str, Made] = {}
    for path, (sha256, content) in new.items():
        before = paired.get(_place(path))
        if before is None or old[before][0] == sha256:
            continue
        described = _description(before, old), _description(path, new)
        found = make(
            old[before][1],
            content,
            folder / f"{old[before][0]}-{sha256}",
            descriptions=(described[0], described[1]) if described[0] and described[1] else None,
        )
        if found is not None:
            made[path] = found
    return made


def _place(path: str) -> str:
    """A path without the number of the version that it begins with."""
    first, _, rest = path.partition("/")
    return rest if rest and first.replace(".", "").isdigit() else path


def _description(path: str, files: Files) -> Path | None:
    """What tells where numbers lie: the `.xml` of a `.bin`, the `.onnx` of its `.data`."""
    name = PurePosixPath(path)
    beside = {".bin": name.with_suffix(".xml"), ".data": name.with_suffix("")}.get(name.suffix)
    found = files.get(str(beside)) if beside else None
    return found[1] if found else None
