"""Content keys: canonical JSON, sha256, and a memory of the digests of files that did not change.

A key never sees paths, times, or hosts: only bytes and names that shape the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

_CHUNK = 1 << 20


def canonical(value: Json) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8; NaN and infinity are refused.

    Equal values give equal bytes on every machine, so the bytes can be hashed.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def of_json(value: Json) -> str:
    """The sha256 of the canonical JSON of `value`, in lower-case hex."""
    return of_bytes(canonical(value))


def of_bytes(content: bytes) -> str:
    """The sha256 of `content`, in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path, read: Callable[[int], None] = lambda _count: None) -> str:
    """The sha256 of a file's content, in lower-case hex, read in chunks of 1 MiB.

    `read` is told the size of each.
    """
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            read(len(chunk))
    return state.hexdigest()


def stamp(path: Path) -> list[int]:
    """What changes whenever a file's content does: size, mtime, ctime (ns) and inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
