"""How a delta lies on disk: header, blocks, segments, read with bounds (docs/delta-format.md).

Every length is checked against what the header and the base allow before anything is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from repo_builder.base.errors import DeltaError

MAGIC = b"RBDELTA\x01"
"""The last byte is the version of the format."""

BLOCK = 1 << 20
"""Bytes of the result that the segments of one block may make, apart from copies."""

SEGMENTS = 4096
"""Segments of one block."""

PREFIX = 4 << 20
"""Bytes of the base that the sent bytes of one block may refer to."""

SHORTEST_PREFIX = 8
"""zstd takes no shorter one."""

BODY = 4 << 20
"""Bytes of one block in the delta."""

LENGTH = 1 << 40
"""Bytes of a base or a result."""

_HEADER = struct.Struct("<8sQ32sQ32sI")
HEADER = _HEADER.size
"""Bytes of the header."""


class Kind(IntEnum):
    """Where the bytes of a segment come from. I: integers, F: floats; the figure is their width."""

    COPY = 0
    RAW = 1
    PLANES_2 = 2
    PLANES_4 = 3
    ADD_I1 = 4
    ADD_I2 = 5
    ADD_I4 = 6
    ADD_F2 = 7
    ADD_F4 = 8
    STEP_F2 = 9
    STEP_F4 = 10


WIDTH = {
    Kind.COPY: 1, Kind.RAW: 1, Kind.PLANES_2: 2, Kind.PLANES_4: 4, Kind.ADD_I1: 1, Kind.ADD_I2: 2,
    Kind.ADD_I4: 4, Kind.ADD_F2: 2, Kind.ADD_F4: 4, Kind.STEP_F2: 2, Kind.STEP_F4: 4,
}  # fmt: skip
SENT = (Kind.RAW, Kind.PLANES_2, Kind.PLANES_4)
"""Kinds that need no bytes of the base."""

STEPS = (Kind.STEP_F2, Kind.STEP_F4)
"""Kinds with an exponent: the base's number + q * 2^exponent."""


@dataclass(frozen=True)
class Header:
    """What a delta goes from and to: lengths in bytes, sha256 in lower-case hex.

    A whole file has the empty file as its base.
    """

    base_length: int
    base_digest: str
    length: int
    digest: str
    blocks: int

    def packed(self) -> bytes:
        """The header as it stands at the front of a delta."""
        return _HEADER.pack(
            MAGIC, self.base_length, bytes.fromhex(self.base_digest), self.length,
            bytes.fromhex(self.digest), self.blocks,
        )  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """`length` bytes of the result; `base` is where they come from, `exponent` is a STEP's."""

    kind: Kind
    length: int
    base: int = 0
    exponent: int = 0


def read_header(delta: BinaryIO) -> Header:
    """The header of a delta, with its lengths within bounds; DeltaError otherwise."""
    content = exactly(delta, HEADER, "its header")
    magic, base_length, base_digest, length, digest, blocks = _HEADER.unpack(content)
    if magic[:-1] != MAGIC[:-1]:
        raise DeltaError("this is not a delta: it does not begin with RBDELTA")
    if magic != MAGIC:
        raise DeltaError(
            f"delta of format {magic[-1]}, and this version reads {MAGIC[-1]}; update repo-builder"
        )
    if max(base_length, length) > LENGTH or blocks > max(length, 1):
        raise DeltaError(
            f"delta with impossible lengths: base {base_length}, result {length}, {blocks} blocks"
        )
    return Header(base_length, base_digest.hex(), length, digest.hex(), blocks)


def exactly(stream: BinaryIO, count: int, what: str) -> bytes:
    """The next `count` bytes of a stream that may give fewer at a time."""
    parts: list[bytes] = []
    missing = count
    while missing:
        part = stream.read(missing)
        if not part:
            raise DeltaError(f"delta ends within {what}: {missing} bytes are missing")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def body_length(delta: BinaryIO) -> int:
    """The length of the next block's body."""
    length = int.from_bytes(exactly(delta, 4, "the length of a block"), "little")
    if length > BODY:
        raise DeltaError(f"block of {length} bytes; at most {BODY}")
    return length


class Cursor:
    """Reads a block's body from its front to its end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self._content) - self._at:
            raise DeltaError("block ends before what it announces")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, most: int, what: str) -> int:
        """A number of 7 bits a byte, the lowest first, from 0 to `most`."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 63:
                raise DeltaError(f"{what}: a number of more than 9 bytes")
        if value > most:
            raise DeltaError(f"{what} is {value}; at most {most}")
        return value

    def signed(self, most: int, what: str) -> int:
        """A number from -`most` to `most`, in zigzag order."""
        value = self.number(2 * most + 1, what)
        return (value >> 1) ^ -(value & 1)

    def end(self) -> None:
        """Refuse bytes that nobody asked for."""
        if self._at != len(self._content):
            raise DeltaError(f"block with {len(self._content) - self._at} bytes too many")


def number(value: int) -> bytes:
    """`value` as `Cursor.number` reads it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def signed(value: int) -> bytes:
    """`value` as `Cursor.signed` reads it."""
    return number(value << 1 if value >= 0 else (-value << 1) - 1)


def pack_table(segments: Iterable[Segment]) -> bytes:
    """The segments of a block as `read_table` reads them."""
    out = bytearray()
    base_at = 0
    for segment in segments:
        out.append(segment.kind)
        out += number(segment.length // WIDTH[segment.kind])
        if segment.kind not in SENT:
            out += signed(segment.base - base_at)
            base_at = segment.base + segment.length
        if segment.kind in STEPS:
            out += signed(segment.exponent)
    return bytes(out)


def read_table(table: Cursor, count: int, left: int, base_length: int) -> list[Segment]:
    """`count` segments that stay inside the base and make at most `left` bytes of the result."""
    segments: list[Segment] = []
    numbers = base_at = 0
    for _ in range(count):
        code = table.take(1)[0]
        if code not in Kind._value2member_map_:
            raise DeltaError(f"segment of unknown kind {code}")
        kind = Kind(code)
        width = WIDTH[kind]
        length = width * table.number(LENGTH, "length of a segment")
        if not 0 < length <= left:
            raise DeltaError(f"segment of {length} bytes where {left} bytes of the result are left")
        left -= length
        base = exponent = 0
        if kind not in SENT:
            base = base_at + table.signed(LENGTH, "place in the base")
            if base < 0 or base + length > base_length:
                raise DeltaError(
                    f"segment reaches outside of the base: {length} bytes at {base},"
                    f" and it has {base_length}"
                )
            base_at = base + length
        if kind in STEPS:
            exponent = table.signed(1100, "exponent of a step")
        if kind is not Kind.COPY:
            numbers += length
            if numbers > BLOCK:
                raise DeltaError(f"block makes more than {BLOCK} bytes")
        segments.append(Segment(kind, length, base, exponent))
    table.end()
    return segments
