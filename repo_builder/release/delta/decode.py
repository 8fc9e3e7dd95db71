"""Makes one block of a result: reads its segments, then all numbers of each kind at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from repo_builder.base.errors import DeltaError
from repo_builder.release.delta import coding, numbers, zstd
from repo_builder.release.delta.layout import (
    BLOCK,
    PREFIX,
    SEGMENTS,
    SENT,
    SHORTEST_PREFIX,
    STEPS,
    WIDTH,
    Cursor,
    Kind,
    Segment,
    read_table,
)

_READ = 1 << 20


def parts(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The next `length` bytes of a file in parts."""
    while length:
        part = file.read(min(length, _READ))
        if not part:
            raise DeltaError(f"base or result is {length} bytes too short; get the whole file")
        yield part
        length -= len(part)


def block(
    body: Cursor,
    base: BinaryIO,
    base_length: int,
    left: int,
    write: Callable[[bytes | memoryview], None],
) -> int:
    """Make one block, of `left` bytes of the result at most; returns how many it made."""
    count = body.number(SEGMENTS, "segments of a block")
    table = zstd.read(body, body.number(32 * SEGMENTS, "length of a table"), "table of segments")
    segments = read_table(Cursor(table), count, left, base_length)
    if not segments:
        raise DeltaError("block without segments")
    made = {Kind.RAW: memoryview(_sent(body, segments, base, base_length))}
    for kind in Kind:
        if kind not in (Kind.COPY, Kind.RAW) and any(s.kind is kind for s in segments):
            made[kind] = _numbers(body, kind, [s for s in segments if s.kind is kind], base)
    body.end()
    at = dict.fromkeys(made, 0)
    for segment in segments:
        if segment.kind is Kind.COPY:
            base.seek(segment.base)
            for part in parts(base, segment.length):
                write(part)
        else:
            begin = at[segment.kind]
            write(made[segment.kind][begin : begin + segment.length])
            at[segment.kind] = begin + segment.length
    return sum(segment.length for segment in segments)


def _sent(body: Cursor, segments: list[Segment], base: BinaryIO, base_length: int) -> bytes:
    """The bytes of all RAW segments; they may refer to a part of the base."""
    length = sum(s.length for s in segments if s.kind is Kind.RAW)
    if not length:
        return b""
    size = body.number(min(PREFIX, base_length), "length of a prefix")
    prefix = b""
    if 0 < size < SHORTEST_PREFIX:
        raise DeltaError(f"prefix of {size} bytes; at least {SHORTEST_PREFIX}")
    if size:
        base.seek(body.number(base_length - size, "place of a prefix"))
        prefix = b"".join(parts(base, size))
    return zstd.read(body, length, "sent bytes", prefix)


def _numbers(body: Cursor, kind: Kind, segments: list[Segment], base: BinaryIO) -> memoryview:
    """The bytes of all segments of one kind of numbers."""
    width = WIDTH[kind]
    count = sum(s.length for s in segments) // width
    what = f"{kind.name} of {count} numbers"
    if kind in SENT:
        bits = numbers.unturned(coding.decoded(body, count, width, _no_groups, what))
        return memoryview(bits.view(np.uint8).data)
    old = numbers.unsigned(_gathered(base, segments), kind)
    if kind in STEPS:
        q = coding.decoded(body, count, 4, _no_groups, what)
        each = [np.full(s.length // width, s.exponent, np.int32) for s in segments]
        new = numbers.stepped(old, q, np.concatenate(each), kind)
    else:
        change = coding.decoded(body, count, width, lambda: numbers.exponents(old, kind), what)
        places = np.flatnonzero(change)
        if len(places) <= coding.FEW * count:
            new = old.copy()
            new[places] = numbers.sums(old[places], change[places], kind)
        else:
            new = numbers.sums(old, change, kind)
    return memoryview(new.view(np.uint8).data)


def _gathered(base: BinaryIO, segments: list[Segment]) -> bytes:
    found: list[bytes] = []
    for segment in segments:
        base.seek(segment.base)
        found += parts(base, segment.length)
    content = b"".join(found)
    assert len(content) <= BLOCK  # noqa: S101  the table is within bounds
    return content


def _no_groups() -> None:
    """What numbers are grouped by that have no base."""
