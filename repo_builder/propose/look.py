"""What a model is, by looking into its file and by running it on made-up rows.

Runs in a process of its own (`run.isolated`): a model may crash its runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.base.artifact import Contents, Signature
from repo_builder.introspect import declared, graph, prove, quantized, runtime, trial
from repo_builder.introspect.samples import axis_name

if TYPE_CHECKING:
    import onnx

    from repo_builder.introspect.samples import Array

_ROWS = 4
_SHAPING = frozenset(
    ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "ZipMap")
)
"""Operators that leave values as they are."""


@dataclass(frozen=True)
class Seen:
    """What an output held on made-up rows, and the operator that made its values ("": unknown).

    `shares`: values are 0 or more and sum to 1 along `axis`, as of a softmax. `unit`: rows have
    length 1. `least` and `most` are over all values, NaN where there are no numbers.
    """

    made_by: str = ""
    axis: int = -1
    shares: bool = False
    unit: bool = False
    least: float = float("nan")
    most: float = float("nan")


@dataclass(frozen=True)
class Look:
    """A model's interface and contents, what its outputs held, and what its exporter noted.

    `sizes` are those of open dimensions with which it ran, by `samples.axis_name`: a row at a time
    where that runs. `has_scales`: it is quantized already.
    """

    signature: Signature
    sizes: Mapping[str, int]
    contents: Contents | None
    seen: Mapping[str, Seen]
    metadata: Mapping[str, str]
    has_scales: bool


def look(path: Path) -> Look:
    """Look into the model at `path` and run it. ModelError: see `introspect.signature`."""
    loaded = graph.read(path)
    signature = prove.signature(loaded, {})
    model = declared.parsed(path)
    makers = _makers(model) if model else {}
    sizes, outputs = _run(loaded, signature)
    return Look(
        signature,
        sizes,
        declared.contents(path),
        {
            tensor.name: _seen(array, makers.get(tensor.name, ""))
            for tensor, array in zip(signature.outputs, outputs, strict=False)
        },
        {entry.key: entry.value for entry in model.metadata_props} if model else {},
        bool(model and quantized.find(model)),
    )


def _run(loaded: graph.Graph, signature: Signature) -> tuple[Mapping[str, int], list[Array]]:
    """Sizes that run, and the outputs of a few rows, of one where no more run."""
    ran = signature.dynamic_axes
    if not signature.batched:
        rows = {
            axis_name(t, 0): 1 for t in loaded.inputs if t.shape and isinstance(t.shape[0], str)
        }
        for given in ({**ran, **rows}, rows, ran):
            tried, _ = trial.attempt(loaded, None, given)
            if tried is not None:
                return tried.axes, tried.outputs
        return ran, []
    tried, _ = trial.attempt(loaded, 1, ran)
    if tried is None:
        return ran, []
    try:
        return ran, trial.run(loaded, trial.feed(loaded, ran, tried.kind, _ROWS, row=0))
    except runtime.errors():
        return ran, tried.outputs


def _makers(model: onnx.ModelProto) -> dict[str, str]:
    """Output -> the type of the node that made its values, behind those that only shape them."""
    nodes = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for value in model.graph.output:
        node = nodes.get(value.name)
        while node is not None and node.op_type in _SHAPING and node.input[0] in nodes:
            node = nodes[node.input[0]]
        found[value.name] = node.op_type if node is not None else ""
    return found


def _seen(array: Array, made_by: str) -> Seen:
    """`array` has rows first; of images [n, classes, h, w] dimension 1 has the classes."""
    axis = 1 if array.ndim == 4 else -1
    if array.dtype.kind not in "fiu" or not array.size or not np.isfinite(array).all():
        return Seen(made_by, axis)
    values = array.astype(np.float64)
    several = array.ndim > 1 and array.shape[axis] > 1
    sums = values.sum(axis=axis) if several else np.zeros(1)
    length = np.linalg.norm(values, axis=-1) if several else np.zeros(1)
    floats = array.dtype.kind == "f"
    return Seen(
        made_by,
        axis,
        shares=bool(floats and values.min() >= 0 and np.allclose(sums, 1, atol=1e-2)),
        unit=bool(floats and array.ndim == 2 and np.allclose(length, 1, atol=1e-3)),
        least=float(values.min()),
        most=float(values.max()),
    )
