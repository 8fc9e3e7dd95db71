"""What a reader found: arrays with one row a sample, and what is known of each row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import DataError, Problem

Array: TypeAlias = npt.NDArray[Any]

_NAMED = 10
"""Bad rows that an error names; the others are counted."""


@dataclass(frozen=True)
class Rows:
    """Samples: `inputs` and `labels` have one row of every array for each of them.

    `digests` is equal for two rows exactly where all their inputs are equal. `classes` are the
    words that the numbers in `labels` stand for, empty where the labels were numbers already.
    """

    inputs: Mapping[str, Array]
    labels: Mapping[str, Array]
    digests: Sequence[bytes]
    classes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.digests)


def digests(arrays: Iterable[Array]) -> list[bytes]:
    """A digest of each row of all arrays together, which have equally many rows."""
    columns = list(arrays)
    return [
        hashlib.sha256(b"".join(_bytes(array[row]) for array in columns)).digest()
        for row in range(min(map(len, columns)))
    ]


def _bytes(row: Any) -> bytes:
    return np.asarray(row).tobytes()


def encoded(labels: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """Labels as numbers, and the classes of words.

    Whole numbers become int64 and other numbers float32, as they are; words become the int64
    index of their class in sorted order.
    """
    for kind, dtype in ((int, np.int64), (float, np.float32)):
        try:
            return np.array([kind(text) for text in labels], dtype), ()
        except (ValueError, OverflowError):
            continue
    classes = tuple(sorted(set(labels)))
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[text] for text in labels], np.int64), classes


def refuse(what: str, problems: Sequence[Problem]) -> None:
    """DataError with the first ten of `problems` and the number of the others, if there are any."""
    if problems:
        shown = list(problems[:_NAMED])
        if len(problems) > _NAMED:
            shown.append(Problem(f"and {len(problems) - _NAMED} more"))
        raise DataError(f"{what} has {len(problems)} bad entries:", shown)
