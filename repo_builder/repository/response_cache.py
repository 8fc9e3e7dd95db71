"""Which models a Triton with a response cache would go on answering from what they were before.

The cache's key is a model's name, the number of its version and the inputs of the request (seen on
Triton 2.51): it outlives reloads, so a version that is built anew under its old number keeps
getting the old answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def stale(before: Path, after: Path) -> dict[str, str]:
    """Model -> why its cached answers would be wrong, of two generations; {} where none would be.

    A model is looked at where it has `response_cache` on in both. `before` need not be there.
    """
    try:
        old = _models(before)
    except FileNotFoundError:
        return {}
    found = {}
    for name, record in _models(after).items():
        if name not in old:
            continue
        was, now = _versions(old[name]), _versions(record)
        again = [number for number in sorted(was.keys() & now.keys()) if was[number] != now[number]]
        if again and _cached(before, old[name]) and _cached(after, record):
            found[name] = (
                f"response_cache is on, and version {again[0]} was published before with other "
                "files: Triton would go on with the old answers; raise the version, or switch "
                "the cache off for one release"
            )
    return found


def _models(generation: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((generation / "manifest.json").read_bytes())
    models: dict[str, Any] = manifest["models"]
    return models


def _versions(record: Mapping[str, Any]) -> dict[str, str]:
    """The number of each version folder -> a text of the digests of its files."""
    found: dict[str, list[str]] = {}
    for file, (sha256, _) in sorted(record["files"].items()):
        number, slash, rest = file.partition("/")
        if slash and number.isdigit():
            found.setdefault(number, []).append(f"{rest} {sha256}")
    return {number: "\n".join(files) for number, files in found.items()}


def _cached(generation: Path, record: Mapping[str, Any]) -> bool:
    from repo_builder.repository import render

    path = generation / record["folder"] / "config.pbtxt"
    if not path.is_file():
        return False
    return bool(render.parse(path.read_text(encoding="utf-8")).response_cache.enable)
