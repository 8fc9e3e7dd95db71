"""Large values for models of 64-bit integers: some runtimes compute these in 32 bits.

OpenVINO's CPU device does, without a word. Random rows are small, so it never shows there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import ModelError
from repo_builder.introspect import walk
from repo_builder.steps import _answers, _data, _onnx, _rows
from repo_builder.steps._runtimes import Runner

if TYPE_CHECKING:
    from onnx import ModelProto

FOLDER = "large"
ROWS = 4
BOUND = 1 << 41
"""Beyond milliseconds since 1970, which are about 1.8e12."""

_WIDE = ("INT64", "UINT64")
_SIZES = frozenset(
    {
        "ConstantOfShape",
        "Expand",
        "EyeLike",
        "Loop",
        "NonZero",
        "OneHot",
        "Pad",
        "Range",
        "Reshape",
        "Resize",
        "Scan",
        "Slice",
        "Split",
        "Tile",
        "TopK",
        "Trilu",
        "Upsample",
    }
)
"""Operators that would take such values for sizes and ask for all memory."""


def write(out: Path, folder: Path, runner: Runner, samples: _data.Samples) -> None:
    """Write `large/` with inputs and answers of `ROWS` rows with large integers.

    Writes nothing where no input is a 64-bit integer, where a value may become a size, or where
    the source refuses such values: indices into a table of words, for one.
    """
    wide = [tensor for tensor in runner.inputs if tensor.dtype in _WIDE]
    if not wide or _makes_sizes(_onnx.load_graph(folder), wide):
        return
    large = with_large(samples.first(ROWS), wide)
    try:
        answers = _answers.collect(runner, large)
    except ModelError:
        return
    (out / FOLDER).mkdir()
    _answers.write(out / FOLDER, answers, large)
    _data.write(out / FOLDER / _rows.INPUTS, large.arrays)


def with_large(samples: _data.Samples, wide: Sequence[Tensor]) -> _data.Samples:
    """`samples` with values up to `BOUND` in the inputs `wide`, the same every time."""
    random = np.random.default_rng(0)
    arrays = dict(samples.arrays)
    for tensor in wide:
        array = arrays[tensor.name]
        arrays[tensor.name] = random.integers(0, BOUND, array.shape).astype(array.dtype)
    return _data.Samples(arrays, samples.blocks, samples.runs)


def _makes_sizes(model: ModelProto, wide: Sequence[Tensor]) -> bool:
    """Whether one of `_SIZES` reads what comes from the inputs `wide`, or a subgraph may."""
    reached = {tensor.name for tensor in wide}
    for node in model.graph.node:
        inner = bool(walk.bodies(node))
        if not inner and reached.isdisjoint(node.input):
            continue
        if inner or node.op_type in _SIZES:
            return True
        reached.update(node.output)
    return any(node.domain not in ("", "ai.onnx") for node in walk.nodes(model))
