"""Weights stored in 8 bits for nodes that compute in floating point: a quarter of the bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

from repo_builder.steps import _grid, _quantizable, _stored
from repo_builder.steps._data import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

WeightBits = Literal[4, 7, 8]
_MOST: Mapping[WeightBits, int] = {4: 7, 7: 64, 8: 127}
"""The largest integer of weights; 7 bits are integers of 8 up to half of that."""


def store(
    model: ModelProto, names: Collection[str], *, per_channel: bool, bits: Literal[7, 8]
) -> None:
    """Store the weights of the heavy nodes `names` in int8; whoever loads the model unpacks them.

    Weights that another node reads too stay. No DequantizeLinear does it: behind one, ONNX Runtime
    makes a MatMulNBits of a MatMul, which rounds the activations to 8 bits.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name)
    writer = _stored.Writer(model)
    for node in list(model.graph.node):
        if node.name not in names or node.op_type not in _quantizable.HEAVY:
            continue
        if node.input[1] not in stored or not readers[node.input[1]] <= set(names):
            continue
        values = numpy_helper.to_array(stored[node.input[1]])
        axis = _quantizable.axis(node, values.ndim)
        rows = _stored.matrix(values, axis)
        grid = fit(rows, per_channel=per_channel, bits=bits)
        writer.unpacked(node, grid, grid.nearest(rows), axis)
    writer.finish()


def rounded(node: NodeProto, weights: Array, *, per_channel: bool, bits: Literal[7, 8]) -> Array:
    """What int8 leaves of the weights of a heavy node."""
    axis = _quantizable.axis(node, weights.ndim)
    rows = _stored.matrix(weights, axis)
    grid = fit(rows, per_channel=per_channel, bits=bits)
    return _stored.turned(grid.values(grid.nearest(rows)), weights.shape, axis)


def fit(rows: Array, *, per_channel: bool, bits: WeightBits) -> _grid.Grid:
    """The grid of weights [outputs, inputs], as ONNX Runtime's quantizer has it."""
    most = _MOST[bits]
    sharing: _grid.Sharing = "channel" if per_channel else "tensor"
    return _grid.fit(rows, low=-most, high=most, symmetric=True, sharing=sharing)
