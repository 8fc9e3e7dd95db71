"""Numbers: how far values lie from their targets."""

from __future__ import annotations

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics.arrays import Array, Arrays, rows


def errors(power: int, outputs: Arrays, labels: Arrays) -> Array:
    """Of each row, the mean of its values' absolute errors to this power: [rows]."""
    return np.asarray(np.mean(np.abs(_difference(outputs, labels)) ** power, axis=1))


def _difference(outputs: Arrays, labels: Arrays) -> Array:
    value, target = rows(outputs["value"]), rows(labels["target"])
    if value.shape != target.shape:
        raise DataError(
            f"'target' has {target.shape[1]} values a row, the model's output {value.shape[1]}"
        )
    return value - target


def mse(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Mean squared error over all values of all rows."""
    return float(np.mean(_difference(outputs, labels) ** 2))


def mae(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Mean absolute error over all values of all rows."""
    return float(np.mean(np.abs(_difference(outputs, labels))))


def rmse(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:
    """Root of the mean squared error over all values of all rows, in the target's unit."""
    return float(np.sqrt(mse(outputs, labels, inputs)))
