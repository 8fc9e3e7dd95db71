"""What every metric is given: arrays by the metric's names, and small checks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import DataError

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]


def rows(array: Array) -> Array:
    """[rows, everything else], in float64."""
    return np.asarray(array, dtype=np.float64).reshape(len(array), -1)


def require_classes(name: str, label: Array, count: int, classes: int) -> None:
    """DataError unless `label` holds `count` integers of 0..classes - 1."""
    if label.dtype.kind not in "iu" or len(label) != count:
        raise DataError(
            f"'{name}' is {label.dtype} with {len(label)} entries; the metric needs one integer "
            f"for each of {count} rows"
        )
    if label.min() < 0 or label.max() >= classes:
        raise DataError(
            f"'{name}' has classes {label.min()}..{label.max()}; the model has {classes}: "
            f"0..{classes - 1}"
        )
