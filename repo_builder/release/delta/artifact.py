"""Deltas between the files of two versions of an artifact: a model's folder as a device has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from repo_builder.release.delta.make import Made, make

Files: TypeAlias = Mapping[str, tuple[str, Path]]
"""POSIX path below the model's folder -> (sha256, where the content lies, under any name)."""


def pairs(old: Files, new: Files) -> dict[str, str]:
    """Paths of `new` whose content changed, and the path of each in `old`.

    Files are paired by their paths, less Triton's number of the version.
    """
    known = {_place(path): path for path in old}
    found = {path: known.get(_place(path)) for path in new}
    return {
        path: before
        for path, before in found.items()
        if before is not None and old[before][0] != new[path][0]
    }


def between(
    old: Files, new: Files, folder: Path, paired: Mapping[str, str] | None = None
) -> dict[str, Made]:
    """Write a delta for each file of `new` that has one, into `folder`; path -> what was made.

    A delta is called `BASE-RESULT`, by the sha256 of both. `paired` are those of `pairs` that are
    wanted; all of them where it is not given. Of some files a delta is not worth while.
    """
    made: dict[str, Made] = {}
    for path, before in (pairs(old, new) if paired is None else paired).items():
        described = _description(before, old), _description(path, new)
        found = make(
            old[before][1],
            new[path][1],
            folder / f"{old[before][0]}-{new[path][0]}",
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
