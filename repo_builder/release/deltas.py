"""Deltas from the releases before: made once for each pair of files, found by digest.

    deltas/RESULT.json    sha256 of a base -> [sha256, bytes] of the delta's blob, or null where
                          none is worth while

RESULT is the sha256 of a file of a release. A device that has a base asks for its delta; one that
has none, or for whom there is null, gets the whole file.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from repo_builder.base import digest
from repo_builder.base.errors import StoreError
from repo_builder.release import types
from repo_builder.release.folder import Folder
from repo_builder.release.registry import Registry
from repo_builder.release.types import Artifact, Release

Known: TypeAlias = dict[str, "tuple[str, int] | None"]
"""sha256 of a base -> sha256 and bytes of the delta from it; None: the whole file is better."""


@dataclass(frozen=True)
class Added:
    """A delta that is new in the registry, in bytes; `file` is what it makes, of `whole` bytes."""

    target: str
    file: str
    base: str
    size: int
    whole: int


def add(registry: Registry, text: str, last: int) -> list[Added]:
    """Make what is missing of the deltas to NAME:VERSION from the `last` versions before it."""
    release = registry.release(text)
    added: list[Added] = []
    for before in _before(registry, release, last):
        for target, artifact in release.targets.items():
            if target in before.targets:
                made = _between(registry, before.targets[target], artifact)
                added += [
                    Added(target, path, before.id, size, artifact.files[path][1])
                    for path, size in made.items()
                ]
    return added


def known(registry: Registry, result: str) -> Known:
    """The deltas that make the file with this sha256."""
    content = Folder(registry.root).read(_index(result), types.LARGEST)
    if content is None:
        return {}
    try:
        plain = json.loads(content)
        if plain["format"] != 1:
            raise ValueError
        return {
            base: None if found is None else (str(found[0]), int(found[1]))
            for base, found in plain["deltas"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        where = registry.root / _index(result)
        raise StoreError(f"{where}: is damaged; delete it and release again") from None


def _before(registry: Registry, release: Release, last: int) -> list[Release]:
    """The newest `last` releases with smaller versions that were not yanked."""
    own = types.numbers(release.version)
    found: list[Release] = []
    for version in reversed(registry.versions(release.name)):
        text = f"{release.name}:{version}"
        if len(found) < last and types.numbers(version) < own and registry.yanked(text) is None:
            found.append(registry.release(text))
    return found


def _between(registry: Registry, old: Artifact, new: Artifact) -> dict[str, int]:
    """Make the deltas that no index names yet; path of the result -> bytes."""
    from repo_builder.release.delta import between, pairs

    folder = Folder(registry.root)
    before, after = (
        {path: (sha256, folder.blob(sha256)) for path, (sha256, _) in artifact.files.items()}
        for artifact in (old, new)
    )
    missing = {
        path: base
        for path, base in pairs(before, after).items()
        if before[base][0] not in known(registry, after[path][0])
    }
    added: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="repo-builder-deltas-") as scratch:
        made = between(before, after, Path(scratch), missing) if missing else {}
        for path, base in missing.items():
            result, start = after[path][0], before[base][0]
            found: tuple[str, int] | None = None
            if path in made:
                delta = Path(scratch) / f"{start}-{result}"
                found = digest.of_file(delta), made[path].size
                folder.add_blob(delta, *found)
                added[path] = made[path].size
            with folder.locked():
                every = {**known(registry, result), start: found}
                content = digest.canonical({"format": 1, "deltas": every})
                folder.write(_index(result), content)
    return added


def _index(result: str) -> str:
    return f"deltas/{result}.json"
