"""Whether rows of a built model that run together equal those that run alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from repo_builder.introspect.runtime import reason_of
from repo_builder.steps import _data
from repo_builder.steps._data import Array
from repo_builder.steps._runtimes import Runner

ROWS = 4
TOLERANCE = 0.02
"""Of an output's largest value: in int8 equal rows may differ by a step."""


def why_not(runner: Runner, samples: _data.Samples, alone: Mapping[str, Array]) -> str:
    """What speaks against running rows together, found by running the first four at once.

    `alone` are the outputs of `samples` run one by one. Where that is one row only, a second is
    made of it, since a batch of equal rows would prove nothing.
    """
    tensors = (*runner.inputs, *runner.outputs)
    fixed = [t.name for t in tensors if not t.shape or isinstance(t.shape[0], int)]
    if fixed or any(block != 1 for block in samples.blocks.values()):
        return f"'{(fixed or list(samples.blocks))[0]}' has no varying first dimension"
    if runner.by_rows:
        return ""
    count = min(samples.runs, ROWS)
    rows = {name: array[:count] for name, array in samples.arrays.items()}
    try:
        if count == 1:
            second = {name: _another(array) for name, array in rows.items()}
            found = runner.run(second)
            alone = {
                name: np.concatenate([array[:1], found[name]]) for name, array in alone.items()
            }
            rows = {name: np.concatenate([array, second[name]]) for name, array in rows.items()}
            count = 2
        together = runner.run(rows)
    except Exception as failure:  # noqa: BLE001 - every runtime has errors of its own
        return f"a batch of {max(count, 2)} fails: {reason_of(failure)}"
    for name, array in together.items():
        expected = alone[name][:count]
        if array.shape != expected.shape:
            return f"a batch of {count} gives '{name}' the shape {list(array.shape)}"
        if array.dtype.kind == "f":
            scale = float(np.abs(np.nan_to_num(expected)).max(initial=0.0))
            if not np.allclose(array, expected, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
                return f"'{name}' of a row changes with the other rows of its batch"
    return ""


def _another(row: Array) -> Array:
    """A row of the same values in another order: no value that the model may not take."""
    return np.asarray(np.roll(row.reshape(-1), row.size // 2).reshape(row.shape))
