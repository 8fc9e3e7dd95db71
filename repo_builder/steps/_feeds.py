"""Inputs of the batch sizes that a model is timed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repo_builder.steps import _data, _runtimes, _turns
from repo_builder.steps._failures import explained


def of(
    runner: _runtimes.Runner, samples: _data.Samples, sizes: Sequence[int]
) -> dict[int, Mapping[str, _data.Array]]:
    """The inputs of each batch size that the model takes, each run once; of 1 always."""
    feeds: dict[int, Mapping[str, _data.Array]] = {}
    one_row = 0.0
    for batch in sorted({1, *sizes}) if _batched(runner, samples) else (1,):
        if 2 * one_row * batch > _turns.LONGEST:
            continue
        feed = samples.feed(0) if batch == 1 else _repeat(samples, batch)
        with explained(f"a batch of {batch} fails", "check the model's batch dimension"):
            (first,) = _turns.block(runner, feed, 1)
        feeds[batch] = feed
        if batch == 1:  # the first run may take longer than others
            again = (
                _turns.block(runner, feed, 1)
                if _turns.LONGEST / 100 < first < _turns.LONGEST
                else []
            )
            one_row = min([first, *again])
    return feeds


def _batched(runner: _runtimes.Runner, samples: _data.Samples) -> bool:
    tensors = (*runner.inputs, *runner.outputs)
    return all(block == 1 for block in samples.blocks.values()) and all(
        tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors
    )


def _repeat(samples: _data.Samples, batch: int) -> Mapping[str, _data.Array]:
    """`batch` rows of every input, from the start again where there are fewer."""
    rows = np.arange(batch)
    return {name: array[rows % len(array)] for name, array in samples.arrays.items()}
