"""What a compiled model is tried on: rows of evaluation data, or noise where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.steps import _data, _judge
from repo_builder.steps._data import Array


def feeds(evaluation: Path | None, inputs: Sequence[Tensor], rows: int) -> list[dict[str, Array]]:
    """Up to `rows` inputs of a model with static shapes. DataError: see `_data`.

    Noise is standard normal, the same every time.
    """
    if evaluation is None:
        random = np.random.default_rng(0)
        shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in inputs}
        types = {tensor.name: _data.numpy_type(tensor) for tensor in inputs}
        return [
            {
                name: random.standard_normal(shape).astype(types[name])
                for name, shape in shapes.items()
            }
            for _ in range(rows)
        ]
    samples = _data.samples(evaluation / _judge.FILE, inputs)
    return [samples.feed(run) for run in range(min(rows, samples.runs))]
