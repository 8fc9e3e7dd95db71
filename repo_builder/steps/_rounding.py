"""Rounding of weights that makes up for itself: down or up, whichever leaves the answers nearer.

The nearest integer for every weight is not the best for their sum: errors of weights whose inputs
go together can cancel. For answers W x the squared error of weights V is tr((V-W) H (V-W)^T), with
H the mean of x x^T over calibration rows. It is lowered column by column, the error of each spread
over those still to come (E. Frantar and others, "GPTQ", ICLR 2023), then by going over single
weights as long as one step is better. AdaRound (M. Nagel and others, ICML 2020) seeks the same
minimum by gradient descent.
"""

from __future__ import annotations

import numpy as np

from repo_builder.steps._grid import Array, Grid

DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it: few rows do not span all directions."""

SWEEPS = 3
"""Times that every weight is looked at again; later ones change next to nothing."""

_JOINED = 128
"""Columns whose errors are spread over the rest at once."""


def loss(weights: Array, rounded: Array, gram: Array) -> Array:
    """The mean squared error of each output, [outputs], where `gram` is the mean of x x^T."""
    error = np.asarray(rounded, np.float64) - weights
    return np.asarray(np.einsum("oi,oi->o", error @ gram, error))


def rounded(weights: Array, grid: Grid, gram: Array) -> Array:
    """Integers of `grid` for `weights` [outputs, inputs], for inputs of `gram` [inputs, inputs].

    No output is further off on those inputs than with the nearest integers.
    """
    exact = np.asarray(weights, np.float64)
    scale, zero = (np.broadcast_to(x, exact.shape) for x in grid.spread(exact.shape[1]))
    nearest = grid.nearest(weights)
    damped = np.asarray(gram, np.float64).copy()
    diagonal = np.diagonal(damped)
    if not diagonal.any():
        return nearest
    damped[np.diag_indices_from(damped)] += DAMPING * diagonal.mean()
    order = np.argsort(-np.diagonal(damped), kind="stable")
    back = np.argsort(order, kind="stable")
    part = _Part(exact[:, order], scale[:, order].astype(np.float64), zero[:, order], grid)
    found = part.spread(damped[np.ix_(order, order)])
    found = part.improved(found, damped[np.ix_(order, order)])[:, back]
    better = loss(exact, grid.values(found), gram) < loss(exact, grid.values(nearest), gram)
    return np.where(better[:, None], found, nearest)


class _Part:
    """Weights in the order in which they are rounded, and the grid at each."""

    def __init__(self, exact: Array, scale: Array, zero: Array, grid: Grid) -> None:
        self._exact, self._scale, self._zero, self._grid = exact, scale, zero, grid

    def _integers(self, wanted: Array, at: slice | int) -> Array:
        integers = np.rint(wanted / self._scale[:, at]) + self._zero[:, at]
        return np.asarray(np.clip(integers, self._grid.low, self._grid.high), np.int32)

    def _values(self, integers: Array, at: slice | int) -> Array:
        return np.asarray((integers - self._zero[:, at]) * self._scale[:, at])

    def spread(self, gram: Array) -> Array:
        """Round column by column; what each is off by is taken up by the columns after it."""
        upper = np.linalg.cholesky(np.linalg.inv(gram)).T
        left = self._exact.copy()
        found = np.zeros(left.shape, np.int32)
        count = left.shape[1]
        for begin in range(0, count, _JOINED):
            end = min(begin + _JOINED, count)
            errors = np.zeros((len(left), end - begin))
            for column in range(begin, end):
                found[:, column] = self._integers(left[:, column], column)
                off = left[:, column] - self._values(found[:, column], column)
                errors[:, column - begin] = off / upper[column, column]
                left[:, column:end] -= np.outer(
                    errors[:, column - begin], upper[column, column:end]
                )
            left[:, end:] -= errors @ upper[begin:end, end:]
        return found

    def improved(self, found: Array, gram: Array) -> Array:
        """Set every weight to what is best with the others as they are, until none changes."""
        error = self._values(found, slice(None)) - self._exact
        slope = error @ gram
        for _ in range(SWEEPS):
            before = error.copy()
            for begin in range(0, found.shape[1], _JOINED):
                part = slice(begin, begin + _JOINED)
                old = error[:, part].copy()
                self._improve(found, error, slope[:, part].copy(), part, gram[part, part])
                slope += (error[:, part] - old) @ gram[part]
            if (error == before).all():
                break
        return found

    def _improve(self, found: Array, error: Array, slope: Array, part: slice, gram: Array) -> None:
        """Go once over the columns of `part`, for which `slope` is error @ gram of all columns."""
        for number in range(slope.shape[1]):
            column = part.start + number
            least = error[:, column] - slope[:, number] / gram[number, number]
            better = self._integers(self._exact[:, column] + least, column)
            step = self._values(better, column) - self._values(found[:, column], column)
            found[:, column] = better
            error[:, column] += step
            slope += np.outer(step, gram[number])
