"""Encodes one block: its segments, then bytes and numbers in the order in which `apply` reads."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import BinaryIO, cast

import numpy as np

from repo_builder.release.delta import coding, decode, numbers, zstd
from repo_builder.release.delta.align import Bytes
from repo_builder.release.delta.layout import (
    PREFIX,
    SENT,
    SHORTEST_PREFIX,
    STEPS,
    WIDTH,
    Cursor,
    Kind,
    Segment,
    number,
    pack_table,
)
from repo_builder.release.delta.segments import Block, quotients

_TABLE_LEVEL = 9

_POOR = 0.7
"""Differences that take more than this part of the numbers are compared with sending them whole."""

_WHOLE = {Kind.ADD_F4: Kind.PLANES_4, Kind.ADD_F2: Kind.PLANES_2, Kind.ADD_I1: Kind.RAW}


def body(old: Bytes, new: Bytes, block: Block, level: int) -> bytes:
    """The smallest body of a block that was found. It was decoded again and gives the new bytes."""
    best = _body(old, new, block, level)
    made = sum(s.length for s in block.segments if s.kind is not Kind.COPY)
    if len(best) > _POOR * made and any(s.kind in _WHOLE for s in block.segments):
        sent = tuple(
            replace(s, kind=_WHOLE.get(s.kind, s.kind), base=0 if s.kind in _WHOLE else s.base)
            for s in block.segments
        )
        best = min(best, _body(old, new, replace(block, segments=sent), level), key=len)
    _check(best, old, new, block.new)
    return best


def _check(content: bytes, old: Bytes, new: Bytes, at: int) -> None:
    """RuntimeError, which is a bug, where a body does not make what it should."""
    place = at

    def compare(part: bytes | memoryview) -> None:
        nonlocal place
        if not np.array_equal(np.frombuffer(part, np.uint8), new[place : place + len(part)]):
            raise RuntimeError(f"a delta's block at {at} is wrong at {place}; please report it")
        place += len(part)

    decode.block(Cursor(content), cast(BinaryIO, _Memory(old)), len(old), len(new) - at, compare)


class _Memory(io.RawIOBase):
    """Bytes in memory as a file, without a copy of them all."""

    def __init__(self, content: Bytes) -> None:
        self._content = content
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the front."""
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer at the end."""
        part = self._content[self._at : self._at + size].tobytes()
        self._at += len(part)
        return part


def _body(old: Bytes, new: Bytes, block: Block, level: int) -> bytes:
    table = pack_table(block.segments)
    out = [number(len(block.segments)), number(len(table)), zstd.stream(table, _TABLE_LEVEL)]
    made: dict[Kind, list[tuple[Segment, Bytes]]] = {}
    at = block.new
    base = near = min(at, len(old))
    for segment in block.segments:
        if segment.kind is Kind.RAW and Kind.RAW not in made:
            near = base
        if segment.kind not in SENT:
            base = segment.base + segment.length
        made.setdefault(segment.kind, []).append((segment, new[at : at + segment.length]))
        at += segment.length
    if Kind.RAW in made:
        out.append(_sent(old, b"".join(part.tobytes() for _, part in made[Kind.RAW]), near, level))
    for kind in Kind:
        if kind in made and kind not in (Kind.COPY, Kind.RAW):
            out.append(_numbers(old, kind, made[kind]))
    return b"".join(out)


def _sent(old: Bytes, content: bytes, near: int, level: int) -> bytes:
    """RAW bytes with what lies around `near` in the base, or without where that is no larger."""
    alone = zstd.stream(content, level)
    size = min(PREFIX, len(old))
    best = number(0) + alone
    if size >= SHORTEST_PREFIX and len(alone) > 64:
        begin = min(max(near - size // 2, 0), len(old) - size)
        known = old[begin : begin + size].tobytes()
        best = min(best, number(size) + number(begin) + zstd.stream(content, level, known), key=len)
    return best


def _numbers(old: Bytes, kind: Kind, parts: list[tuple[Segment, Bytes]]) -> bytes:
    new = numbers.unsigned(np.concatenate([part for _, part in parts]), kind)
    if kind in SENT:
        return coding.encoded(numbers.turned(new))
    known = np.concatenate([old[s.base : s.base + s.length] for s, _ in parts])
    base = numbers.unsigned(known, kind)
    if kind not in STEPS:
        changed = np.flatnonzero(base != new)
        if len(changed) <= coding.FEW * len(new):
            return coding.placed(changed, numbers.differences(base[changed], new[changed], kind))
        groups = numbers.exponents(base, kind)
        return coding.encoded(numbers.differences(base, new, kind), groups)
    q: list[numbers.Ints] = []
    at = 0
    for segment, _ in parts:
        count = segment.length // WIDTH[kind]
        x, y = base[at : at + count], new[at : at + count]
        q.append(quotients(x, y, segment.exponent, kind))
        at += count
    return coding.encoded(np.concatenate(q))
