"""Rows that a net is trained and scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from repo_builder.base.digest import Json
from repo_builder.base.errors import DataError
from repo_builder.nets.losses import Array


@dataclass(frozen=True)
class Rows:
    """Arrays by name, one row an entry, all of one length: plain ones, or mapped files.

    `inputs` names what the net takes, in order; the others are for the objective, and `target` is
    the one that a loss by name reads. Without `validation` rows nothing is scored.
    """

    inputs: tuple[str, ...]
    train: Mapping[str, Array]
    validation: Mapping[str, Array] = field(default_factory=dict)
    target: str = "label"


def check(rows: Rows) -> None:
    """DataError: no rows, arrays of different lengths, or none for an input or the target."""
    for what, arrays in (("training", rows.train), ("validation", rows.validation)):
        if what == "validation" and not arrays:
            continue
        read = [*rows.inputs, *([rows.target] if rows.target in rows.train else [])]
        if missing := [name for name in read if name not in arrays]:
            raise DataError(f"the {what} data have no array '{missing[0]}'")
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1 or not all(lengths.values()):
            told = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
            raise DataError(f"the {what} data must have equally many rows, at least one: {told}")


def digests(arrays: Mapping[str, Array]) -> dict[str, Json]:
    """Type, shape and content of arrays."""
    return {
        name: [
            str(array.dtype),
            list(array.shape),
            hashlib.sha256(np.ascontiguousarray(array).data).hexdigest(),
        ]
        for name, array in arrays.items()
    }
