"""The pairs of QuantizeLinear and DequantizeLinear that ONNX Runtime's quantizer writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from repo_builder.steps import _calibrate, _canonical, _grid, _narrow, _quantizable, _stored
from repo_builder.targets.types import Scheme

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True)
class Form:
    """Which integers: of activations by `scheme`, `activation_bits` and `symmetric`, of weights by
    `weight_bits` (7: integers of 8 bits up to 64) and `per_channel`. `whole`: see `quantize`.
    """

    scheme: Scheme = "u8s8"
    symmetric: bool = False
    per_channel: bool = True
    weight_bits: _narrow.WeightBits = 8
    activation_bits: Literal[8, 16] = 8
    whole: bool = False

    @property
    def around_zero(self) -> bool:
        """Whether ranges of activations are used from -x to x."""
        return self.symmetric or self.scheme == "s8s8"

    def rounded(self, values: _grid.Array, limits: _calibrate.Range) -> _grid.Array:
        """What is left of an activation at run time."""
        low, high = limits.low, limits.high
        levels = (1 << self.activation_bits) - 1
        if self.around_zero:
            high = max(-low, high)
            low = -high
        if high <= low:
            return np.zeros_like(values)
        scale = (high - low) / levels
        zero = np.rint(-low / scale)
        integers = np.clip(np.rint(values / scale) + zero, 0, levels)
        return np.asarray((integers - zero) * scale, np.float32)


def grids(model: ModelProto, nodes: Sequence[NodeProto], form: Form) -> dict[str, _grid.Grid]:
    """The integers of the stored weights of heavy nodes, by the node's name."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in nodes:
        if node.op_type not in _quantizable.HEAVY or node.input[1] not in stored:
            continue
        weights = numpy_helper.to_array(stored[node.input[1]])
        rows = _stored.matrix(weights, _quantizable.axis(node, weights.ndim))
        found[node.name] = _narrow.fit(rows, per_channel=form.per_channel, bits=form.weight_bits)
    return found


def quantize(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    ranges: Mapping[str, _calibrate.Range],
    form: Form,
    grids: Mapping[str, _grid.Grid],
) -> ModelProto:
    """`model`, which is spent, with pairs around `nodes`; whatever the quantizer raises.

    `grids` has the scales of weights that were rounded before, by the node's name; others get
    those of their largest values.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod as Method
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType

    # TensorRT wants zero points of 0, biases in floating point, and a pair of its own for every
    # reader and for every weight.
    for_tensorrt = {
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True,
    }
    roles = _quantizable.roles(model, nodes)
    _canonical.copies(model, roles)
    options: dict[str, Any] = {
        "WeightSymmetric": True,
        "ActivationSymmetric": form.around_zero,
        "TensorQuantOverrides": _overrides(model, nodes, roles, form, grids),
        # Also what only moves an input's values, such as the Transpose that Keras puts first.
        "ForceQuantizeNoInputCheck": form.whole,
        "QDQKeepRemovableActivations": any(_cuts_off_zero(model, node) for node in nodes),
    }
    if form.scheme == "s8s8":
        options.update(for_tensorrt)
    data = {
        name: TensorData(lowest=np.float32(r.low), highest=np.float32(r.high))
        for name, r in ranges.items()
    }
    metadata = list(model.metadata_props)
    quantizer = QDQQuantizer(
        model,
        form.per_channel,
        form.weight_bits == 7,
        QuantType.QInt4 if form.weight_bits == 4 else QuantType.QInt8,
        _activation_type(form),
        TensorsData(Method.MinMax, data),
        [node.name for node in nodes],
        [],
        sorted({node.op_type for node in nodes}),
        options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: ModelProto = quantizer.model.model
    del result.metadata_props[:]
    result.metadata_props.extend(metadata)
    return result


def _overrides(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    roles: Mapping[tuple[str, int], str],
    form: Form,
    grids: Mapping[str, _grid.Grid],
) -> dict[str, list[dict[str, Any]]]:
    """Stored tensors that are not quantized as weights along the usual axis, or not to the nearest
    numbers of their largest values.
    """
    from onnxruntime.quantization.quant_utils import QuantType

    weight_type = QuantType.QInt4 if form.weight_bits == 4 else QuantType.QInt8

    stored = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    activation = {
        "quant_type": _activation_type(form),
        "symmetric": form.around_zero,
        "reduce_range": False,
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        for number, name in enumerate(node.input):
            role = roles.get((node.name, number), "")
            if name not in stored:
                continue
            if role == "activation":
                found[name] = [dict(activation)]
            elif role.startswith("weights"):
                axis = _quantizable.axis(node, stored[name])
                if node.name in grids:
                    found[name] = _scales(grids[node.name], axis, weight_type)
                elif axis is None:
                    found[name] = [{"quant_type": weight_type, "symmetric": True}]
    return found


def _scales(grid: _grid.Grid, axis: int | None, weight_type: Any) -> list[dict[str, Any]]:
    """A grid as the quantizer takes it: a scale for each channel, or one."""
    zero = np.array(0, np.int8)
    scales = [
        {"quant_type": weight_type, "scale": np.array(scale, np.float32), "zero_point": zero}
        for scale in grid.scale.reshape(-1)
    ]
    return scales if grid.scale.size == 1 else [{"axis": axis, **scale} for scale in scales]


def _activation_type(form: Form) -> Any:
    from onnxruntime.quantization.quant_utils import QuantType

    if form.activation_bits == 16:
        return QuantType.QUInt16
    return QuantType.QUInt8 if form.scheme == "u8s8" else QuantType.QInt8


def _cuts_off_zero(model: ModelProto, node: NodeProto) -> bool:
    """Whether this is a Clip to a range without 0, which scales and zero points cannot say."""
    from onnx import numpy_helper

    if node.op_type != "Clip":
        return False
    stored = {t.name: t for t in model.graph.initializer if t.name in node.input[1:]}
    limits = [
        float(numpy_helper.to_array(stored[name])) if name in stored else 0.0
        for name in node.input[1:]
    ]
    low, high = (*limits, 0.0, 0.0)[:2]
    return low > 0 or high < 0
