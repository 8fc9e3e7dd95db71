"""Makes a file from its base and a delta: a stream, in bounded memory, from wherever it stopped.

The base's digest is checked before a byte of it is used, the result's before `apply` returns.
What `apply` last told `note` is safe on disk: after a crash it goes on from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from repo_builder.base.errors import DeltaError
from repo_builder.release.delta.decode import block, parts
from repo_builder.release.delta.layout import (
    HEADER,
    Cursor,
    Header,
    body_length,
    exactly,
    read_header,
)

_NOTED = 16 << 20
"""Bytes of the result between two notes, each of which waits for the disk."""


@dataclass(frozen=True)
class Place:
    """How far an `apply` came: the next block's number and offset in the delta, and the bytes of
    the result that are on disk. Plain numbers, to be kept."""

    block: int
    delta: int
    result: int


def apply(
    delta: BinaryIO,
    base: BinaryIO,
    out: BinaryIO,
    digest: str,
    length: int,
    *,
    done: tuple[Header, Place] | None = None,
    note: Callable[[Header, Place], None] = lambda _header, _place: None,
) -> Header:
    """Write the file of `digest` and `length`, which a delta makes from `base`, into `out`.

    `delta` is read forward only and may give fewer bytes than asked for; `base` can be sought;
    `out` is opened for reading and writing ("w+b", or "r+b" to go on). To go on, `done` is what
    `note` was last told and `delta` begins at `done.delta`: what lies in `out` is read again, so
    damage shows. DeltaError where base, delta or result are not what they should be; `out` then
    holds nothing of worth.
    """
    header = done[0] if done else read_header(delta)
    place = done[1] if done else Place(0, HEADER, 0)
    if (header.digest, header.length) != (digest, length):
        raise DeltaError(
            f"delta makes {header.digest[:12]} of {header.length} bytes,"
            f" wanted is {digest[:12]} of {length}"
        )
    _check(base, header.base_digest, header.base_length)
    state = hashlib.sha256()
    out.seek(0)
    for part in parts(out, place.result):
        state.update(part)
    out.truncate(place.result)
    out.seek(place.result)
    noted = place.result
    while place.block < header.blocks:
        size = body_length(delta)
        body = Cursor(exactly(delta, size, "a block"))
        left = length - place.result
        made = block(body, base, header.base_length, left, lambda part: _write(out, state, part))
        place = Place(place.block + 1, place.delta + 4 + size, place.result + made)
        if place.result - noted >= _NOTED:
            _to_disk(out)
            note(header, place)
            noted = place.result
    if place.result != length:
        raise DeltaError(f"delta makes {place.result} bytes of {length}")
    if delta.read(1):
        raise DeltaError("delta goes on after its last block")
    if state.hexdigest() != digest:
        raise DeltaError(f"result is {state.hexdigest()[:12]}, not {digest[:12]}; start anew")
    _to_disk(out)
    return header


def _check(base: BinaryIO, digest: str, length: int) -> None:
    state = hashlib.sha256()
    base.seek(0)
    for part in parts(base, length):
        state.update(part)
    if base.read(1) or state.hexdigest() != digest:
        raise DeltaError(
            f"base is not {digest[:12]}, from which the delta goes; get the whole file"
        )


def _write(out: BinaryIO, state: hashlib._Hash, part: bytes | memoryview) -> None:
    state.update(part)
    out.write(part)


def _to_disk(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())
