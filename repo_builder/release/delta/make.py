"""Makes deltas: aligns old and new in several ways, encodes each, keeps the smallest.

`make` below is the path. On the server only; the device needs `apply`.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from repo_builder.release.delta import align, encode
from repo_builder.release.delta.align import Bytes, Range
from repo_builder.release.delta.layout import HEADER, Header, Kind, Segment
from repo_builder.release.delta.parsers import tensors
from repo_builder.release.delta.parsers.tensor import Tensor
from repo_builder.release.delta.segments import Block, blocks, segments

WORTH = 0.7
"""A delta is made where it is below this part of the whole file, packed."""

_SMALL = 16 << 20
"""Up to here the slow ways are tried: moved pieces, and zstd's highest level."""

_GOOD = {"tensors": 0.52, "in place": 0.2, "moved": 0.2}
"""Nothing else is tried where a delta is below this part of the file, or most of it is floats.
What packs its weights itself, as Vela does, has tensors that tell less."""

_SAMPLES = 3

_HIGH, _LOW = 19, 3
"""Levels of zstd for bytes that are sent whole."""


@dataclass(frozen=True)
class Made:
    """A delta or a whole file, packed, in a file of `size` bytes; `way` names how it was found."""

    header: Header
    size: int
    way: str


@dataclass(frozen=True)
class _Pair:
    old: Bytes
    new: Bytes
    pool: ThreadPoolExecutor


def make(
    old: Path,
    new: Path,
    out: Path,
    *,
    descriptions: tuple[Path, Path] | None = None,
    worth: float = WORTH,
) -> Made | None:
    """Write the smallest delta that was found from `old` to `new` into `out`.

    None, and no file, where it would not be below `worth` of `new` or what `pack` makes of it.
    `descriptions` tell what lies where in each of the two: OpenVINO's `.xml`, or the `.onnx` of
    external data.
    """
    with _opened(old) as a, _opened(new) as b, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        pair = _Pair(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8), pool)
        digests = [pool.submit(hashlib.sha256, content) for content in (a, b)]
        described = descriptions or (None, None)
        found = tensors(a, described[0]), tensors(b, described[1])
        way, encoded = _smallest(pair, found)
        size = HEADER + sum(len(body) + 4 for body in encoded)
        surely = size < worth / 2 * min(_packed_size(pair, found[1], _SAMPLES), len(b))
        if not surely and size >= worth * min(_packed_size(pair, found[1], None), len(b)):
            return None
        hashes = [digest.result().hexdigest() for digest in digests]
        return _written(
            out, Header(len(a), hashes[0], len(b), hashes[1], len(encoded)), encoded, way
        )


def pack(new: Path, out: Path, *, description: Path | None = None) -> Made:
    """Write the whole of `new` in byte planes into `out`: a delta whose base is the empty file."""
    with _opened(new) as b, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        pair = _Pair(np.zeros(0, np.uint8), np.frombuffer(b, np.uint8), pool)
        encoded = list(_encode(pair, blocks(_planes(tensors(b, description), len(b))), _LOW))
        empty = hashlib.sha256(b"").hexdigest()
        header = Header(0, empty, len(b), hashlib.sha256(b).hexdigest(), len(encoded))
        return _written(out, header, encoded, "whole")


@contextmanager
def _opened(path: Path) -> Iterator[mmap.mmap | bytes]:
    """A file's content, without reading it at once. The map ends with what looks into it."""
    with path.open("rb") as file:
        size = path.stat().st_size
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def _written(out: Path, header: Header, encoded: Sequence[bytes], way: str) -> Made:
    with out.open("wb") as file:
        file.write(header.packed())
        for content in encoded:
            file.write(len(content).to_bytes(4, "little") + content)
    return Made(header, out.stat().st_size, way)


def _smallest(
    pair: _Pair, found: tuple[Sequence[Tensor], Sequence[Tensor]]
) -> tuple[str, list[bytes]]:
    """The name of the best way, and its blocks."""
    old, new = len(pair.old), len(pair.new)
    ways: list[tuple[str, Callable[[], list[Range]]]] = []
    if found[0] and found[1]:
        ways.append(("tensors", lambda: align.by_tensors(*found, old, new)))
    ways.append(("in place", lambda: align.in_place(old, new)))
    if max(old, new) <= _SMALL:
        ways.append(("moved", lambda: align.moved(pair.old, pair.new)))
        ways.append(("sent", lambda: [Range(0, new, None, "")] if new else []))
    floats = sum(t.length for t in found[1] if t.type in ("f4", "f2")) if found[0] else 0
    best: tuple[int, str, list[Block], list[bytes]] | None = None
    enough = False
    for name, ranges in ways:
        if best and enough:
            break
        planned = blocks(_segments(pair, ranges()))
        encoded = list(_encode(pair, planned, _LOW))
        size = sum(map(len, encoded))
        if best is None or size < best[0]:
            best = size, name, planned, encoded
        enough = floats > new / 2 or size < _GOOD.get(name, 0.0) * new
    assert best is not None  # noqa: S101  one way is always tried
    _, name, planned, encoded = best
    sent = sum(s.length for b in planned for s in b.segments if s.kind in (Kind.RAW, Kind.ADD_I1))
    if not enough and sent <= _SMALL:
        encoded = list(_encode(pair, planned, _HIGH))
    return name, encoded


def _segments(pair: _Pair, ranges: Sequence[Range]) -> Iterator[list[Segment]]:
    return pair.pool.map(lambda each: segments(pair.old, pair.new, each), ranges)


def _planes(found: Sequence[Tensor], size: int) -> Iterator[list[Segment]]:
    """Segments that need no base."""
    none = np.zeros(0, np.uint8)
    return (segments(none, none, each) for each in align.by_tensors((), found, 0, size))


def _packed_size(pair: _Pair, found: Sequence[Tensor], samples: int | None) -> float:
    """Bytes that `pack` makes of the new file; estimated from some blocks with `samples`."""
    every = blocks(_planes(found, len(pair.new)))
    chosen = every[:: max(len(every) // samples, 1)] if samples else every
    size = sum(map(len, _encode(replace(pair, old=pair.old[:0]), chosen, _LOW)))
    made = sum(segment.length for block in chosen for segment in block.segments)
    return size * len(pair.new) / made if made else 0.0


def _encode(pair: _Pair, planned: Sequence[Block], level: int) -> Iterator[bytes]:
    """The bodies of blocks, in their order; what is sent whole at a level of zstd."""
    return pair.pool.map(lambda block: encode.body(pair.old, pair.new, block, level), planned)
