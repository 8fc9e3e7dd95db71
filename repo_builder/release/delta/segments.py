"""Turns ranges that resemble each other into segments, by looking at the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repo_builder.release.delta import numbers
from repo_builder.release.delta.align import Bytes, Range
from repo_builder.release.delta.layout import BLOCK, SEGMENTS, SENT, WIDTH, Kind, Segment

_REGION, _LARGE_REGION = 2048, 16384
"""Bytes of which the kind is chosen at once where no type is known; in files above `_LARGE`."""

_LARGE = 16 << 20

_WIDER = 1.15
"""How much cheaper narrow numbers must look to be chosen: parts of a float32 do look so."""

_LOOKED_AT = 512
"""Bytes of a region that the choice looks at."""

_ADD = {"f4": Kind.ADD_F4, "f2": Kind.ADD_F2, "i4": Kind.ADD_I4, "i2": Kind.ADD_I2}
_PLANES = {"f4": Kind.PLANES_4, "f2": Kind.PLANES_2}
_STEP = {"f4": Kind.STEP_F4, "f2": Kind.STEP_F2}
_SAMPLE = 4096
LARGEST_Q = 4096
"""How many steps a number may be away from the base's."""

_EXPONENTS = 14
"""How many powers of two are tried as the step of a tensor, from the largest change down."""


@dataclass(frozen=True)
class Block:
    """Segments that make the result from `new` on."""

    new: int
    segments: tuple[Segment, ...]


def segments(old: Bytes, new: Bytes, each: Range) -> list[Segment]:
    """The segments of one range."""
    if each.old is None:
        return _sent(each.length, each.type)
    a, b = old[each.old : each.old + each.length], new[each.new : each.new + each.length]
    if not each.type:
        return [segment for piece in _pieces(each) for segment in _untyped(old, new, piece)]
    kind, exponent = _ADD.get(each.type, Kind.ADD_I1), 0
    if each.type in _STEP and each.length % WIDTH[kind] == 0:
        found = step(a, b, _STEP[each.type])
        if found is not None:
            kind, exponent = _STEP[each.type], found
    out: list[Segment] = []
    for piece in _pieces(each):
        x, y = a[piece.new - each.new :][: piece.length], b[piece.new - each.new :][: piece.length]
        usable = piece.length - piece.length % WIDTH[kind]
        base = piece.old or 0
        if np.array_equal(x, y):
            out.append(Segment(Kind.COPY, piece.length, base))
            continue
        if usable:
            out.append(Segment(kind, usable, base, exponent))
        if usable < piece.length:
            out.append(Segment(Kind.ADD_I1, piece.length - usable, base + usable))
    return out


def step(old: Bytes, new: Bytes, kind: Kind) -> int | None:
    """The largest exponent with which old + q * 2^exponent gives `new` exactly, q of 12 bits."""
    x, y = numbers.unsigned(old, kind), numbers.unsigned(new, kind)
    changed = np.flatnonzero(x != y)
    if not len(changed):
        return None
    sample = changed[:: max(len(changed) // _SAMPLE, 1)]
    with np.errstate(all="ignore"):
        largest = float(np.nanmax(np.abs(_change(x[sample], y[sample], kind))))
    if not np.isfinite(largest) or not largest:
        return None
    top = int(np.frexp(largest)[1])
    for exponent in range(top, top - _EXPONENTS, -1):
        if _fits(x[sample], y[sample], exponent, kind) and all(
            _fits(x[i : i + BLOCK], y[i : i + BLOCK], exponent, kind)
            for i in range(0, len(x), BLOCK)
        ):
            return exponent
    return None


def quotients(old: numbers.Ints, new: numbers.Ints, exponent: int, kind: Kind) -> numbers.Ints:
    """The q of `numbers.stepped`, folded, for bits of floats."""
    with np.errstate(all="ignore"):
        q = np.rint(np.ldexp(_change(old, new, kind), -exponent))
        q = np.nan_to_num(np.clip(q, -(2 * LARGEST_Q), 2 * LARGEST_Q))
    return numbers.folded(q.astype(np.int32).view(np.uint32))


def _change(old: numbers.Ints, new: numbers.Ints, kind: Kind) -> numbers.Ints:
    form = np.dtype(f"<f{WIDTH[kind]}")
    return new.view(form).astype(np.float64) - old.view(form).astype(np.float64)


def _fits(old: numbers.Ints, new: numbers.Ints, exponent: int, kind: Kind) -> bool:
    q = quotients(old, new, exponent, kind)
    if not len(q) or int(q.max()) > 2 * LARGEST_Q:
        return not len(q)
    return np.array_equal(numbers.stepped(old, q, np.full(len(q), exponent, np.int32), kind), new)


def _sent(length: int, type_: str) -> list[Segment]:
    kind = _PLANES.get(type_, Kind.RAW)
    usable = length - length % WIDTH[kind]
    parts = [(kind, min(BLOCK, usable - i)) for i in range(0, usable, BLOCK)]
    if usable < length:
        parts.append((Kind.RAW, length - usable))
    return [Segment(kind, size) for kind, size in parts]


def _pieces(each: Range) -> Iterator[Range]:
    for i in range(0, each.length, BLOCK):
        old = None if each.old is None else each.old + i
        yield Range(each.new + i, min(BLOCK, each.length - i), old, each.type)


def _untyped(old: Bytes, new: Bytes, piece: Range) -> list[Segment]:
    """Chooses for each region what costs the fewest bits by a simple estimate."""
    base = piece.old or 0
    x, y = old[base : base + piece.length], new[piece.new : piece.new + piece.length]
    if np.array_equal(x, y):
        return [Segment(Kind.COPY, piece.length, base)]
    size = _REGION if len(new) <= _LARGE else _LARGE_REGION
    regions = len(x) // size
    whole = regions * size
    kinds = [Kind.ADD_I1, Kind.ADD_F4, Kind.ADD_F2]
    rows = [part[:whole].reshape(regions, size) for part in (x, y)]
    differs = np.any(rows[0] != rows[1], axis=1)
    costs = [np.zeros(regions) for _ in kinds]
    for cost, kind in zip(costs, kinds, strict=True):
        a, b = (part[differs, :_LOOKED_AT].reshape(-1) for part in rows)
        cost[differs] = _bits(a, b, kind).reshape(-1, _LOOKED_AT // WIDTH[kind]).sum(axis=1)
    table = np.stack(costs)
    best = np.argmin(table * np.array([[_WIDER], [1], [_WIDER]]), axis=0)
    best[table[best, np.arange(regions)] > 7.8 * _LOOKED_AT] = len(kinds)
    kinds.append(Kind.RAW)
    chosen = [kinds[int(best[i])] if differs[i] else Kind.COPY for i in range(regions)]
    out: list[Segment] = []
    for i, kind in enumerate([*chosen, Kind.ADD_I1]):
        begin = i * size
        length = min(size, len(x) - begin)
        if not length:
            continue
        last = out[-1] if out else None
        if last and last.kind is kind:
            out[-1] = Segment(kind, last.length + length, last.base)
        else:
            out.append(Segment(kind, length, 0 if kind in SENT else base + begin))
    return out


def _bits(old: Bytes, new: Bytes, kind: Kind) -> numbers.Ints:
    """About how many bits each difference takes: its significant ones and some for the place."""
    change = numbers.differences(numbers.unsigned(old, kind), numbers.unsigned(new, kind), kind)
    bits = np.frexp(change.astype(np.float32))[1]
    return np.where(bits > 0, bits + 2, 0)


def blocks(parts: Iterable[Sequence[Segment]]) -> list[Block]:
    """Joins what continues, and cuts into blocks of the size that the format allows."""
    out: list[Block] = []
    current: list[Segment] = []
    begin = at = made = 0
    for segment in (segment for part in parts for segment in part):
        last = current[-1] if current else None
        size = 0 if segment.kind is Kind.COPY else segment.length
        if made + size > BLOCK or len(current) >= SEGMENTS:
            out.append(Block(begin, tuple(current)))
            current, begin, made, last = [], at, 0, None
        if last and _continues(last, segment):
            current[-1] = Segment(last.kind, last.length + segment.length, last.base, last.exponent)
        else:
            current.append(segment)
        made += size
        at += segment.length
    if current:
        out.append(Block(begin, tuple(current)))
    return out


def _continues(last: Segment, segment: Segment) -> bool:
    if (last.kind, last.exponent) != (segment.kind, segment.exponent):
        return False
    return last.kind in SENT or last.base + last.length == segment.base
