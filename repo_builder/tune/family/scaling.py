"""Compound scaling: one number phi for depth, width and resolution together.

    depth = base * alpha ** phi    width = base * beta ** phi    resolution = base * gamma ** phi

Work grows with depth, with width squared, and with resolution to the number of its dimensions. With
alpha * beta ** 2 * gamma ** dimensions = 2, each step of phi costs about twice the work (Tan and
Le: EfficientNet, 2019, arXiv:1905.11946, section 3.3).
"""

from __future__ import annotations

import itertools
import math

_STEPS = 5
"""Values of alpha and of beta that are tried; gamma follows."""


def scaled(base: int, growth: float, phi: float, round_to: int, *, up: bool = False) -> int:
    """A whole multiple of `round_to` near base * growth ** phi, at least one; not below it if `up`.

    `base` itself at phi = 0, whatever it is a multiple of.
    """
    if phi == 0:
        return base
    wanted: float = base * growth**phi / round_to
    whole = math.ceil(wanted - 1e-9) if up else math.floor(wanted + 0.5)
    return round_to * max(whole, 1)


def growths(
    dimensions: int, *, depth: bool = True, width: bool = True, resolution: bool = True
) -> list[tuple[float, float, float]]:
    """Growths (alpha, beta, gamma) that double the work, on a grid; 1 for what does not grow.

    `dimensions` is that of the resolution: 2 for images, 1 for signals.
    """
    if not (depth or width or resolution):
        return []
    powers = (1 if depth else 0, 2 if width else 0, dimensions if resolution else 0)
    growing = [index for index, power in enumerate(powers) if power]
    shares = itertools.product(range(_STEPS), repeat=len(growing))
    found = set()
    for share in shares:
        if sum(share) != _STEPS - 1:
            continue
        made = [1.0, 1.0, 1.0]
        for index, part in zip(growing, share, strict=True):
            made[index] = round(2 ** (part / (_STEPS - 1) / powers[index]), 3)
        found.add((made[0], made[1], made[2]))
    return sorted(found)
