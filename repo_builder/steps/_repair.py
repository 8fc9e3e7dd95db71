"""Weights and biases changed so that a quantized operator answers nearer to what it did before.

`round`: see `_rounding`. `bias`: the mean by which the answers of an operator move on calibration
rows, channel by channel, is taken from its bias (M. Nagel and others, "Data-Free Quantization
through Weight Equalization and Bias Correction", ICCV 2019, section 4.2). Both look at one operator
at a time, on what it read in floating point.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.steps import _canonical, _data, _reads, _rounding
from repo_builder.steps._grid import Grid
from repo_builder.targets.types import Repair

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array: TypeAlias = npt.NDArray[Any]

KINDS: frozenset[Repair] = frozenset({"bias", "round"})

CHOSEN_ON = 32
"""Runs on which it is seen whether a repair brings a model nearer."""


@dataclass(frozen=True)
class Repaired:
    """Operators whose weights were rounded together, and those whose bias was corrected."""

    rounded: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()


def repair(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    samples: _data.Samples,
    grids: Mapping[str, Grid],
    which: Collection[Repair],
    rounding: _reads.Rounding = lambda _, values: values,
) -> Repaired:
    """Change stored weights of `nodes` in `model` to numbers of their grids, and biases.

    `grids` has the grid of each node, for its weights as [outputs, inputs], by the node's name.
    `rounding`: what becomes of activations at run time. Without `round` weights stay as they are,
    and biases are corrected for the nearest numbers of the grid. Operators that share their weights
    are passed over, and those that `_reads` has no columns of.
    """
    if not KINDS.intersection(which):
        return Repaired()
    store = _Store(model)
    alone = [node for node in nodes if store.alone(node)]
    seen = _reads.watch(model, alone, samples, rounding)
    rounded, corrected = [], []
    for node in alone:
        if node.name not in seen:
            continue
        stored = store.weights(node)
        matrix = _reads.matrices(node, stored)
        if matrix is None:
            continue
        new = np.empty(matrix.shape, np.float32)
        moved = np.empty(matrix.shape[:2])
        found = seen[node.name]
        groups = zip(matrix, found.gram, found.mean, found.rounded, strict=True)
        grid = grids[node.name]
        for group, (weights, gram, mean, read) in enumerate(groups):
            own = _of_group(grid, group, len(weights))
            together = "round" in which
            integers = _rounding.rounded(weights, own, gram) if together else own.nearest(weights)
            new[group] = own.values(integers)
            moved[group] = new[group] @ read - weights @ mean
        if "round" in which:
            store.put(node, 1, _reads.stored_form(node, new, stored))
            rounded.append(node.name)
        if "bias" in which and store.shift(node, -moved.reshape(-1)):
            corrected.append(node.name)
    return Repaired(tuple(rounded), tuple(corrected))


def _of_group(grid: Grid, group: int, outputs: int) -> Grid:
    """The part of a grid that is for one group's outputs."""
    if len(grid.scale) == 1:
        return grid
    rows = slice(group * outputs, (group + 1) * outputs)
    return Grid(grid.scale[rows], grid.zero[rows], grid.low, grid.high, grid.block)


class _Store:
    """The stored tensors of a model, and who reads them."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._kept = {value.name for value in model.graph.output}
        self._kept |= _canonical.captured(model.graph)

    def alone(self, node: NodeProto) -> bool:
        """Whether a node has stored weights that nothing else reads."""
        name = node.input[1]
        return name in self._stored and self._only(name)

    def weights(self, node: NodeProto) -> Array:
        """The stored weights of a node, float32."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._stored[node.input[1]]), np.float32)

    def put(self, node: NodeProto, number: int, values: Array) -> None:
        """Give an input of `node` other values."""
        from onnx import numpy_helper

        name = node.input[number]
        made = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
        self._stored[name].CopyFrom(made)

    def shift(self, node: NodeProto, by: Array) -> bool:
        """Add `by`, a number for each channel, to what a node makes; False where it has no place.

        Convolutions and Gemm get a bias where they have none; behind a MatMul it is a stored Add.
        """
        from onnx import numpy_helper

        holder, number = node, 2
        if node.op_type == "MatMul":
            readers = self._readers.get(node.output[0], [])
            if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in self._kept:
                return False
            holder = readers[0]
            number = 1 if holder.input[0] == node.output[0] else 0
        if len(holder.input) <= number or not holder.input[number]:
            taken = set(self._stored) | set(self._readers)
            name = _canonical.fresh(f"{node.name}_bias", taken)
            self._graph.initializer.append(numpy_helper.from_array(by.astype(np.float32), name))
            self._stored[name] = self._graph.initializer[-1]
            self._readers[name] = [holder]
            holder.input[:] = [*holder.input[:2], name]
            return True
        name = holder.input[number]
        if name not in self._stored or not self._only(name):
            return False
        old = np.asarray(numpy_helper.to_array(self._stored[name]))
        if old.dtype != np.float32 or old.size != by.size or old.shape[-1:] != by.shape:
            return False
        self.put(holder, number, old + by.reshape(old.shape).astype(np.float32))
        return True

    def _only(self, name: str) -> bool:
        return len(self._readers.get(name, [])) == 1 and name not in self._kept
