"""Weights in 8 bits for operators of an OpenVINO model that compute in floating point."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from repo_builder.steps import _narrow, _openvino_int8, _openvino_weights


def store(model: Any, names: Collection[str], bits: Literal[7, 8], *, per_channel: bool) -> None:
    """Put a Convert and a Multiply behind the weights, in int8, of the heavy operators `names`.

    The model says that nobody may round what they read: see `_openvino_weights.let_round`. Weights
    that are no constant in fp32, or that others read too, stay.
    """
    from openvino import opset13 as ops

    done = False
    for op in model.get_ordered_ops():
        name = op.get_friendly_name()
        heavy = op.get_type_name() in _openvino_int8.HEAVY
        if not heavy or name.removesuffix("/WithoutBiases") not in names:
            continue
        weights = op.input_value(1)
        constant = weights.get_node()
        if constant.get_type_name() != "Constant" or len(weights.get_target_inputs()) > 1:
            continue
        values = constant.get_data()
        if values.dtype != np.float32:
            continue
        channels = _channels(op, values.ndim) if per_channel else ()
        others = tuple(axis for axis in range(values.ndim) if axis not in channels)
        rows = np.moveaxis(values, channels, range(len(channels)))
        shape = rows.shape[: len(channels)]
        grid = _narrow.fit(rows.reshape(int(np.prod(shape)), -1), per_channel=True, bits=bits)
        scale = np.expand_dims(grid.scale.reshape(shape), others)
        steps = np.clip(np.rint(values / scale), grid.low, grid.high).astype(np.int8)
        stored, factor = ops.constant(steps), ops.constant(scale.astype(np.float32))
        stored.set_friendly_name(constant.get_friendly_name())
        factor.set_friendly_name(f"{name}/scale")
        wide = ops.convert(stored, "f32")
        wide.set_friendly_name(f"{name}/wide")
        unpacked = ops.multiply(wide, factor)
        unpacked.set_friendly_name(f"{name}/weights")
        op.input(1).replace_source_output(unpacked.output(0))
        done = True
    if done:
        model.validate_nodes_and_infer_types()
        _openvino_weights.let_round(model, dynamic=False)


def _channels(op: Any, rank: int) -> tuple[int, ...]:
    """The axes of an operator's weights that are the output's channels."""
    kind = op.get_type_name()
    if kind == "MatMul":
        return (rank - 2 if op.get_attributes()["transpose_b"] else rank - 1,)
    if kind == "GroupConvolution":
        return 0, 1
    return (1,) if kind == "ConvolutionBackpropData" else (0,)
