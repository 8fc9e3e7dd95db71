"""Differences of numbers as integers without sign, and back; exact for every bit pattern.

Floats are compared in the order of their values: mapped to integers that grow as they do (also
across zero), subtracted modulo 2^bits, and folded so that small differences of either sign are
small: 0, -1, 1, -2 become 0, 1, 2, 3. NaN and infinity are bit patterns like others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.release.delta.layout import WIDTH, Kind

Ints = npt.NDArray[Any]

_UNSIGNED: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}
_SIGNED: dict[int, np.dtype[Any]] = {1: np.dtype("<i1"), 2: np.dtype("<i2"), 4: np.dtype("<i4")}
_FLOATS = {Kind.ADD_F2, Kind.ADD_F4}


def unsigned(content: bytes | bytearray | memoryview | Ints, kind: Kind) -> Ints:
    """The bits of a kind's numbers, as unsigned integers of its width; a view."""
    return np.frombuffer(content, _UNSIGNED[WIDTH[kind]])


def differences(old: Ints, new: Ints, kind: Kind) -> Ints:
    """What `sums` adds to `old` to get `new`, folded; all are unsigned and of one width."""
    if kind in _FLOATS:
        old, new = _ordered(old), _ordered(new)
    return folded(new - old)


def sums(old: Ints, difference: Ints, kind: Kind) -> Ints:
    """The inverse of `differences`."""
    difference = unfolded(difference)
    if kind in _FLOATS:
        return _bits(_ordered(old) + difference)
    total: Ints = old + difference
    return total


def stepped(old: Ints, q: Ints, exponents: Ints, kind: Kind) -> Ints:
    """old + q * 2^exponent as floats, rounded once: float16 of `kind` STEP_F2, float32 of STEP_F4.

    `q` is folded and uint32; `exponents` is int32 for each number. The sum is taken with 53 bits,
    so that rounding it again changes nothing (53 >= 2 * 24 + 2) on any machine.
    """
    width = WIDTH[kind]
    floats = old.view(np.dtype(f"<f{width}")).astype(np.float64)
    with np.errstate(all="ignore"):
        steps = np.ldexp(unfolded(q).view(np.int32).astype(np.float64), exponents)
        total: Ints = (floats + steps).astype(np.dtype(f"<f{width}"))
    return total.view(_UNSIGNED[width])


def folded(difference: Ints) -> Ints:
    """0, -1, 1, -2 (modulo 2^bits) as 0, 1, 2, 3."""
    sign = difference.view(_SIGNED[difference.itemsize]) >> (8 * difference.itemsize - 1)
    result: Ints = (difference << 1) ^ sign.view(difference.dtype)
    return result


def unfolded(value: Ints) -> Ints:
    """The inverse of `folded`."""
    one = value.dtype.type(1)
    result: Ints = (value >> 1) ^ (~(value & one) + one)
    return result


def exponents(old: Ints, kind: Kind) -> Ints | None:
    """The exponent of each float that is known, as uint8; None where `kind` has no exponents.

    Changes of like size are differences of like size only among floats of the same exponent.
    """
    if kind is Kind.ADD_F4:
        return (old >> 23).astype(np.uint8)
    if kind is Kind.ADD_F2:
        return (old >> 10 & 31).astype(np.uint8)
    return None


def turned(bits: Ints) -> Ints:
    """Floats' bits with the sign last, so that a plane holds the whole exponent."""
    return (bits << 1) | (bits >> (8 * bits.itemsize - 1))


def unturned(bits: Ints) -> Ints:
    """The inverse of `turned`."""
    return (bits >> 1) | (bits << (8 * bits.itemsize - 1))


def _ordered(bits: Ints) -> Ints:
    top = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    sign = bits.view(_SIGNED[bits.itemsize]) >> (8 * bits.itemsize - 1)
    result: Ints = bits ^ (sign.view(bits.dtype) | top)
    return result


def _bits(ordered: Ints) -> Ints:
    top = ordered.dtype.type(1 << (8 * ordered.itemsize - 1))
    sign = ordered.view(_SIGNED[ordered.itemsize]) >> (8 * ordered.itemsize - 1)
    result: Ints = ordered ^ (~sign.view(ordered.dtype) | top)
    return result
