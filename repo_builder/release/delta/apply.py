"""Makes a file from its base and a delta: a stream, in bounded memory, from wherever it stopped.

The base's digest is checked before a byte of it is used, the result's before `apply` returns.
What `apply` last told `note` is safe on disk: after a crash it goes on from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from repo_builder.base.errors import DeltaError
from repo_builder.release.delta import coding, numbers, zstd
from repo_builder.release.delta.layout import (
    BLOCK,
    HEADER,
    PREFIX,
    SEGMENTS,
    SENT,
    SHORTEST_PREFIX,
    STEPS,
    WIDTH,
    Cursor,
    Header,
    Kind,
    Segment,
    body_length,
    exactly,
    read_header,
    read_table,
)

_READ = 1 << 20
_NOTED = 16 << 20
"""Bytes of the result between two notes, each of which waits for the disk."""


@dataclass(frozen=True)
class Place:
    """How far an `apply` came: the next block's number and offset in the delta, bytes of the
    result that are on disk, and where the base's last segment ended. Plain numbers, to be kept."""

    block: int
    delta: int
    result: int
    base: int


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
    place = done[1] if done else Place(0, HEADER, 0, 0)
    if (header.digest, header.length) != (digest, length):
        raise DeltaError(
            f"delta makes {header.digest[:12]} of {header.length} bytes,"
            f" wanted is {digest[:12]} of {length}"
        )
    _check(base, header.base_digest, header.base_length)
    state = hashlib.sha256()
    out.seek(0)
    for part in _read(out, place.result):
        state.update(part)
    out.truncate(place.result)
    out.seek(place.result)
    noted = place.result
    while place.block < header.blocks:
        size = body_length(delta)
        body = Cursor(exactly(delta, size, "a block"))
        made, base_at = _block(body, base, header, place, lambda part: _write(out, state, part))
        place = Place(place.block + 1, place.delta + 4 + size, place.result + made, base_at)
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
    for part in _read(base, length):
        state.update(part)
    if base.read(1) or state.hexdigest() != digest:
        raise DeltaError(
            f"base is not {digest[:12]}, from which the delta goes; get the whole file"
        )


def _read(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The next `length` bytes of a file in parts."""
    while length:
        part = file.read(min(length, _READ))
        if not part:
            raise DeltaError(f"base or result is {length} bytes too short; get the whole file")
        yield part
        length -= len(part)


def _write(out: BinaryIO, state: hashlib._Hash, part: bytes | memoryview) -> None:
    state.update(part)
    out.write(part)


def _to_disk(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


def _block(
    body: Cursor,
    base: BinaryIO,
    header: Header,
    place: Place,
    write: Callable[[bytes | memoryview], None],
) -> tuple[int, int]:
    """Make one block; returns its bytes of the result and where it ended in the base."""
    count = body.number(SEGMENTS, "segments of a block")
    table = zstd.read(body, body.number(32 * SEGMENTS, "length of a table"), "table of segments")
    left = header.length - place.result
    segments = read_table(Cursor(table), count, place.base, left, header)
    if not segments:
        raise DeltaError("block without segments")
    made = {Kind.RAW: memoryview(_sent(body, segments, base, header))}
    for kind in Kind:
        if kind not in (Kind.COPY, Kind.RAW) and any(s.kind is kind for s in segments):
            made[kind] = _numbers(body, kind, [s for s in segments if s.kind is kind], base)
    body.end()
    at = dict.fromkeys(made, 0)
    base_at = place.base
    for segment in segments:
        if segment.kind is Kind.COPY:
            base.seek(segment.base)
            for part in _read(base, segment.length):
                write(part)
        else:
            begin = at[segment.kind]
            write(made[segment.kind][begin : begin + segment.length])
            at[segment.kind] = begin + segment.length
        if segment.kind not in SENT:
            base_at = segment.base + segment.length
    return sum(segment.length for segment in segments), base_at


def _sent(body: Cursor, segments: list[Segment], base: BinaryIO, header: Header) -> bytes:
    """The bytes of all RAW segments; they may refer to a part of the base."""
    length = sum(s.length for s in segments if s.kind is Kind.RAW)
    if not length:
        return b""
    size = body.number(min(PREFIX, header.base_length), "length of a prefix")
    prefix = b""
    if 0 < size < SHORTEST_PREFIX:
        raise DeltaError(f"prefix of {size} bytes; at least {SHORTEST_PREFIX}")
    if size:
        base.seek(body.number(header.base_length - size, "place of a prefix"))
        prefix = b"".join(_read(base, size))
    return zstd.read(body, length, "sent bytes", prefix)


def _numbers(body: Cursor, kind: Kind, segments: list[Segment], base: BinaryIO) -> memoryview:
    """The bytes of all segments of one kind of numbers."""
    width = WIDTH[kind]
    count = sum(s.length for s in segments) // width
    what = f"{kind.name} of {count} numbers"
    if kind in SENT:
        bits = numbers.unturned(coding.decoded(body, count, width, None, what))
        return memoryview(bits.view(np.uint8).data)
    old = numbers.unsigned(_gathered(base, segments), kind)
    if kind in STEPS:
        q = coding.decoded(body, count, 4, None, what)
        each = [np.full(s.length // width, s.exponent, np.int32) for s in segments]
        new = numbers.stepped(old, q, np.concatenate(each), kind)
    else:
        groups = numbers.exponents(old, kind)
        new = numbers.sums(old, coding.decoded(body, count, width, groups, what), kind)
    return memoryview(new.view(np.uint8).data)


def _gathered(base: BinaryIO, segments: list[Segment]) -> bytes:
    parts: list[bytes] = []
    for segment in segments:
        base.seek(segment.base)
        parts += _read(base, segment.length)
    content = b"".join(parts)
    assert len(content) <= BLOCK  # noqa: S101  the table is within bounds
    return content
