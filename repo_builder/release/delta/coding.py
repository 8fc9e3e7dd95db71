"""Arrays of small integers as streams: byte planes, split and sorted so that like follows like.

zstd codes each byte by how frequent it is, so a plane is worth splitting by what is known of its
numbers already: whether a higher plane was zero (a leading byte is skewed, those below are noise),
and the exponent of the float in the base. Few changes are places and values instead.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np

from repo_builder.base.errors import DeltaError
from repo_builder.release.delta import zstd
from repo_builder.release.delta.layout import Cursor, number
from repo_builder.release.delta.numbers import Ints


class Mode(IntEnum):
    """How an array is laid out in streams."""

    PLANES = 0
    SPLIT = 1
    GROUPED = 2
    PLACES = 3


FEW, _SOME = 0.25, 0.6
"""Below the first part of changes only places are tried, above the second only planes."""


def encoded(values: Ints, groups: Ints | None = None, level: int = 1) -> bytes:
    """`values` in the mode that takes fewest bytes; `groups` (uint8) are known to the decoder."""
    places = np.flatnonzero(values)
    tried = []
    if len(places) <= _SOME * len(values):
        tried.append(placed(places, values[places], level))
    if len(places) > FEW * len(values):
        tried.append(bytes([Mode.PLANES]) + _planes(values, level))
        if values.itemsize > 1:
            tried.append(bytes([Mode.SPLIT]) + _split(values, level))
            if groups is not None:
                order = np.argsort(groups, kind="stable")
                tried.append(bytes([Mode.GROUPED]) + _split(values[order], level))
    return min(tried, key=len)


def placed(places: Ints, present: Ints, level: int = 1) -> bytes:
    """An array of which `places` alone are not 0 but `present`; as `encoded`."""
    return bytes([Mode.PLACES]) + _places(places, present - present.dtype.type(1), level)


def decoded(
    body: Cursor, count: int, width: int, groups: Callable[[], Ints | None], what: str
) -> Ints:
    """The inverse of `encoded`: `count` unsigned integers of `width` bytes.

    `groups` gives what `encoded` was given; it is asked where it is needed.
    """
    mode = body.take(1)[0]
    if mode == Mode.PLANES:
        return _read_planes(body, count, width, what)
    if mode == Mode.SPLIT:
        return _read_split(body, count, width, what)
    if mode == Mode.GROUPED and (known := groups()) is not None:
        found = _read_split(body, count, width, what)
        values = np.empty_like(found)
        values[np.argsort(known, kind="stable")] = found
        return values
    if mode == Mode.PLACES:
        return _read_places(body, count, width, what)
    raise DeltaError(f"{what}: unknown mode {mode}")


def _planes(values: Ints, level: int) -> bytes:
    planes = values.view(np.uint8).reshape(len(values), values.itemsize)
    return b"".join(zstd.stream(planes[:, i].tobytes(), level) for i in range(values.itemsize))


def _read_planes(body: Cursor, count: int, width: int, what: str) -> Ints:
    planes = np.empty((count, width), np.uint8)
    for i in range(width):
        planes[:, i] = np.frombuffer(zstd.read(body, count, what), np.uint8)
    return planes.reshape(-1).view(f"<u{width}")


def _split(values: Ints, level: int) -> bytes:
    """Planes from the highest; each first for numbers that had only zeros so far, then the rest."""
    planes = values.view(np.uint8).reshape(len(values), values.itemsize)
    begun = np.zeros(len(values), bool)
    out = []
    for i in reversed(range(values.itemsize)):
        plane = planes[:, i]
        out.append(zstd.stream(plane[~begun].tobytes(), level))
        out.append(zstd.stream(plane[begun].tobytes(), level))
        begun |= plane != 0
    return b"".join(out)


def _read_split(body: Cursor, count: int, width: int, what: str) -> Ints:
    planes = np.empty((count, width), np.uint8)
    begun = np.zeros(count, bool)
    for i in reversed(range(width)):
        later = int(np.count_nonzero(begun))
        first = np.frombuffer(zstd.read(body, count - later, what), np.uint8)
        rest = np.frombuffer(zstd.read(body, later, what), np.uint8)
        if later:
            plane = np.empty(count, np.uint8)
            plane[~begun] = first
            plane[begun] = rest
        else:
            plane = first
        planes[:, i] = plane
        begun |= plane != 0
    return planes.reshape(-1).view(f"<u{width}")


def _places(places: Ints, less: Ints, level: int) -> bytes:
    """How many, the zeros before each in bytes (255: more follow), and the values `less` 1."""
    gaps = np.diff(places, prepend=-1) - 1
    long, short = np.divmod(gaps, 255)
    ends = np.cumsum(long + 1) - 1
    coded = np.full(int(ends[-1]) + 1 if len(ends) else 0, 255, np.uint8)
    coded[ends] = short
    return b"".join(
        [
            number(len(places)),
            number(len(coded)),
            zstd.stream(coded.tobytes(), level),
            _split(less, level) if less.itemsize > 1 else _planes(less, level),
        ]
    )


def _read_places(body: Cursor, count: int, width: int, what: str) -> Ints:
    present = body.number(count, f"{what}: changes")
    size = body.number(present + count // 255, f"{what}: places")
    coded = np.frombuffer(zstd.read(body, size, what), np.uint8)
    ends = np.flatnonzero(coded != 255)
    if len(ends) != present or (size and (not present or ends[-1] != size - 1)):
        raise DeltaError(f"{what}: {len(ends)} places for {present} changes")
    places = np.cumsum(coded, dtype=np.int64)[ends] + np.arange(present)
    if present and places[-1] >= count:
        raise DeltaError(f"{what}: place {places[-1]} of {count}")
    values = np.zeros(count, f"<u{width}")
    read = _read_split if width > 1 else _read_planes
    values[places] = read(body, present, width, what) + np.dtype(f"<u{width}").type(1)
    return values
