"""Weights stored in 8 bits for nodes that compute in floating point: a quarter of the bytes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from repo_builder.steps import _canonical, _quantizable
from repo_builder.steps._data import Array

if TYPE_CHECKING:
    from onnx import ModelProto


def steps_and_scale(weights: Array, axis: int | None, bits: Literal[7, 8]) -> tuple[Array, Array]:
    """`weights` as whole steps in int8 around 0, and the scales along `axis`, or one for all.

    The scales keep the other dimensions with length 1.
    """
    most = 64 if bits == 7 else 127
    others = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scale = np.asarray(np.where(largest > 0, largest / most, 1), np.float32)
    return np.clip(np.rint(weights / scale), -most, most).astype(np.int8), scale


def store(
    model: ModelProto, names: Collection[str], *, per_channel: bool, bits: Literal[7, 8]
) -> None:
    """Put a DequantizeLinear before the stored weights of the heavy nodes `names`."""
    from onnx import NodeProto, helper, numpy_helper

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        if node.name in names and node.op_type in _quantizable.HEAVY and node.input[1] in stored:
            values = numpy_helper.to_array(stored[node.input[1]])
            axis = _quantizable.axis(node, values.ndim) if per_channel else None
            whole, scale = steps_and_scale(values, axis, bits)
            scale = scale.reshape(-1) if axis is not None else scale.reshape(())
            names_of = [f"{node.name}/weights/{part}" for part in ("steps", "scale", "zero")]
            zero = np.zeros(scale.shape, np.int8)
            graph.initializer.extend(
                numpy_helper.from_array(np.asarray(array), name)
                for array, name in zip((whole, scale, zero), names_of, strict=True)
            )
            more: dict[str, Any] = {} if axis is None else {"axis": axis}
            made = f"{node.name}/weights"
            nodes.append(helper.make_node("DequantizeLinear", names_of, [made], made, **more))
            node.input[1] = made
        nodes.append(node)
    written = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(written)
    _canonical.forget_unused(model)
