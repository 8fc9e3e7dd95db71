"""Says for every range of a new file which range of the old one it resembles, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repo_builder.release.delta.parsers.tensor import Tensor

Bytes = npt.NDArray[np.uint8]

_WINDOW = 32
_STRIDE = 32
_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""

MOVED = 16 << 20
"""The longest file in which moved pieces are looked for: 32 bytes of memory for each of its own."""


@dataclass(frozen=True)
class Range:
    """`length` bytes at `new`; `old` is what they resemble, None: nothing.

    `type` is a tensor's (f4, f2, i4, i2, i1), or "" where it is not known.
    """

    new: int
    length: int
    old: int | None
    type: str


def by_tensors(
    old: Sequence[Tensor], new: Sequence[Tensor], old_size: int, new_size: int
) -> list[Range]:
    """Tensors by name, else by type and shape in their order; what lies between by its place."""
    partners = _partners(old, new)
    before = dict(zip((t.offset for t in old), [0, *(t.end for t in old)], strict=False))
    ranges: list[Range] = []
    at = 0
    for tensor in new:
        partner = partners.get(tensor)
        gap = tensor.offset - at
        if gap:
            begin = partner.offset - gap if partner else None
            fits = partner is not None and begin == before[partner.offset]
            ranges.append(Range(at, gap, begin if fits else None, ""))
        common = min(tensor.length, partner.length) if partner else 0
        if partner and common:
            ranges.append(Range(tensor.offset, common, partner.offset, tensor.type))
        if tensor.length > common:
            ranges.append(Range(tensor.offset + common, tensor.length - common, None, tensor.type))
        at = tensor.end
    if new_size > at:
        tail = new_size - at
        same = old_size - tail if old and old_size - old[-1].end == tail else None
        ranges.append(Range(at, tail, same, ""))
    return ranges


def _partners(old: Sequence[Tensor], new: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    named = {(t.name, t.type): t for t in old}
    found = {t: named[t.name, t.type] for t in new if (t.name, t.type) in named}
    taken = set(found.values())
    left: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}
    for tensor in old:
        if tensor not in taken:
            left.setdefault((tensor.type, tensor.shape), []).append(tensor)
    for tensor in new:
        alike = left.get((tensor.type, tensor.shape))
        if tensor not in found and alike:
            found[tensor] = alike.pop(0)
    return found


def in_place(old_size: int, new_size: int) -> list[Range]:
    """Every byte by the one at its own place."""
    common = min(old_size, new_size)
    ranges = [Range(0, common, 0, "")] if common else []
    if new_size > common:
        ranges.append(Range(common, new_size - common, None, ""))
    return ranges


def moved(old: Bytes, new: Bytes) -> list[Range]:
    """Pieces of the old file wherever they are now, by 32 equal bytes; changes within are kept.

    Hashes of every 32nd window of `old` are looked up at every place of `new`; neighbouring hits
    of the same distance are one piece.
    """
    if min(len(old), len(new)) < 2 * _WINDOW:
        return in_place(0, len(new))
    known = _hashes(old)[::_STRIDE]
    order = np.argsort(known, kind="stable")
    known = known[order]
    seen = _hashes(new)
    likely = np.zeros(1 << 20, bool)
    likely[known >> np.uint64(44)] = True
    places = np.flatnonzero(likely[seen >> np.uint64(44)])
    index = np.minimum(np.searchsorted(known, seen[places]), len(known) - 1)
    hit = known[index] == seen[places]
    places, sources = places[hit], order[index[hit]] * _STRIDE
    runs = _runs(places, sources - places)
    if not runs:
        return in_place(0, len(new))
    first = max(0, -runs[0][1])
    runs[0] = (min(first, runs[0][0]), runs[0][1])
    ranges = _along(0, runs[0][0], None, len(old))
    ends = [begin for begin, _ in runs[1:]] + [len(new)]
    for (begin, distance), end in zip(runs, ends, strict=True):
        ranges += _along(begin, end, distance, len(old))
    return ranges


def _along(begin: int, end: int, shift: int | None, old_size: int) -> list[Range]:
    """The new bytes from `begin` to `end`, by those `shift` further on in the old file."""
    if shift is None:
        return [Range(begin, end - begin, None, "")] if end > begin else []
    usable = max(min(end, old_size - shift), begin)
    parts = [Range(begin, usable - begin, begin + shift, ""), Range(usable, end - usable, None, "")]
    return [part for part in parts if part.length]


def _runs(places: npt.NDArray[np.int64], distances: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where pieces begin and how far they moved: two hits of one distance at least."""
    if not len(places):
        return []
    begins = np.flatnonzero(np.diff(distances, prepend=distances[0] - 1))
    counts = np.diff(begins, append=len(places))
    runs: list[tuple[int, int]] = []
    for i in begins[counts >= 2]:
        if not runs or runs[-1][1] != distances[i]:
            runs.append((int(places[i]), int(distances[i])))
    return runs


def _hashes(content: Bytes) -> npt.NDArray[np.uint64]:
    """A hash of the window that begins at each byte: a polynomial modulo 2^64, by prefix sums."""
    factor = np.uint64(_FACTOR)
    inverse = np.uint64(pow(_FACTOR, -1, 1 << 64))
    powers = np.full(len(content), factor, np.uint64)
    sums = np.zeros(len(content) + 1, np.uint64)
    np.cumsum(content * np.multiply.accumulate(powers), out=sums[1:])
    powers[:] = inverse
    windows = sums[_WINDOW:] - sums[:-_WINDOW]
    result: npt.NDArray[np.uint64] = windows * np.multiply.accumulate(powers)[: len(windows)]
    return result
