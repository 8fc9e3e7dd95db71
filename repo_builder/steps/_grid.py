"""Grids of integers that stored weights are rounded to. Pure arithmetic, in numpy.

Weights are a matrix [outputs, inputs] here: a row holds all that makes one channel of the output.
A row has one scale, or one for each block of `block` inputs; a whole matrix may share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Sharing = Literal["channel", "tensor", "block"]

BLOCK = 32
"""Inputs that share a scale in a block: what ONNX Runtime and OpenVINO multiply fastest."""


@dataclass(frozen=True)
class Grid:
    """The numbers (q - zero) * scale for integers q from `low` to `high`.

    `scale` and `zero` are [outputs, blocks], float32 and integers, 1 standing for all of either;
    `block` is how many inputs one of them is for.
    """

    scale: Array
    zero: Array
    low: int
    high: int
    block: int

    def spread(self, inputs: int) -> tuple[Array, Array]:
        """Scales and zero points for every weight: [outputs or 1, inputs]."""
        scale, zero = (
            np.repeat(x, self.block, axis=1)[:, :inputs] for x in (self.scale, self.zero)
        )
        return scale, zero

    def nearest(self, weights: Array) -> Array:
        """The integers nearest to `weights`, int32."""
        scale, zero = self.spread(weights.shape[1])
        found = np.rint(weights.astype(np.float64) / scale) + zero
        return np.asarray(np.clip(found, self.low, self.high), np.int32)

    def values(self, integers: Array) -> Array:
        """The weights that `integers` stand for, float32, as runtimes unpack them."""
        scale, zero = self.spread(integers.shape[1])
        return np.asarray((integers - zero).astype(np.float32) * scale)


def fit(
    weights: Array, *, low: int, high: int, symmetric: bool, sharing: Sharing, block: int = BLOCK
) -> Grid:
    """The grid that reaches from the least weight to the largest, 0 among its numbers.

    `symmetric`: the zero point is 0 and the largest magnitude falls on `high`. Else the least
    weight falls on `low` and the largest on `high`. A row of zeros has the scale 1.
    """
    outputs, inputs = weights.shape
    width = block if sharing == "block" else inputs
    blocks = -(-inputs // width)
    padded = np.zeros((outputs, blocks * width), np.float64)
    padded[:, :inputs] = weights
    parts = padded.reshape(outputs, blocks, width)
    least, most = parts.min(axis=2), parts.max(axis=2)
    if sharing == "tensor":
        least, most = (np.full((1, 1), x) for x in (least.min(), most.max()))
    if symmetric:
        scale = np.maximum(-least, most) / high
        zero = np.zeros_like(scale)
    else:
        least, most = np.minimum(least, 0.0), np.maximum(most, 0.0)
        scale = (most - least) / (high - low)
        zero = low + np.rint(-least / np.where(scale > 0, scale, 1.0))
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return Grid(scale, zero.astype(np.int32), low, high, width)
