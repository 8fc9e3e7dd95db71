"""What OpenVINO's int8 needs of a model: reductions that it computes right, and ranges apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from repo_builder.steps import _calibrate, _data, _same, _uneven

BETWEEN = frozenset(
    {
        *("Add", "Subtract", "Multiply", "Divide", "Concat", "Select", "Maximum", "Minimum"),
        *("Clamp", "Relu", "PRelu", "Sigmoid", "Reshape", "Transpose", "Squeeze", "Unsqueeze"),
        *("Split", "VariadicSplit", "StridedSlice", "Slice", "Pad", "Interpolate", "Broadcast"),
        *("MaxPool", "AvgPool", "Tile", "Gather"),
    }
)
"""Operators that NNCF may quantize between heavy ones, and that a mask may go through."""

HEAVY = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
"""Operators that int8 makes faster."""

RUNS = 16
"""Runs that are looked at for masks, which show on nearly every row."""


def keep_dimensions(model: Any) -> None:
    """Write reductions that drop dimensions as ones that keep them, with a Squeeze behind.

    OpenVINO's CPU device (2025.4, 2026.4) fuses what follows a reduction into it and then scales
    the wrong dimension where one was dropped: errors of 60 to 170 % before a FakeQuantize.
    """
    from openvino import opset13 as ops

    for op in model.get_ordered_ops():
        kept = op.get_attributes().get("keep_dims")
        if kept is not False or not op.get_type_name().startswith("Reduce"):
            continue
        result = op.output(0)
        readers, names = list(result.get_target_inputs()), set(result.get_names())
        op.set_attribute("keep_dims", True)
        op.constructor_validate_and_infer_types()
        squeezed = ops.squeeze(result, op.input_value(1))
        squeezed.set_friendly_name(f"{op.get_friendly_name()}/squeezed")
        for reader in readers:
            reader.replace_source_output(squeezed.output(0))
        result.get_tensor().set_names(set())
        squeezed.output(0).get_tensor().set_names(names)
    model.validate_nodes_and_infer_types()


def spread_biases(model: Any) -> None:
    """Write one number that is added behind a heavy operator as a vector of it.

    NNCF (3.4) takes the constant for a bias of the operator's channels and corrects each
    of them, which one number has no room for: it ends in an error of numpy.
    """
    from openvino import opset13 as ops

    for op in model.get_ordered_ops():
        if op.get_type_name() != "Add":
            continue
        sides = [value.get_node() for value in op.input_values()]
        for number, (constant, heavy) in enumerate((sides, sides[::-1])):
            if constant.get_type_name() != "Constant" or heavy.get_type_name() not in HEAVY:
                continue
            shape = op.input_value(1 - number).get_partial_shape()
            axis = -1 if heavy.get_type_name() == "MatMul" else 1
            values = constant.get_data()
            if values.size != 1 or shape.rank.is_dynamic or shape[axis].is_dynamic:
                continue
            vector = [1] * len(shape)
            vector[axis] = shape[axis].get_length()
            wide = ops.constant(np.full(vector, values.reshape(-1)[0], values.dtype))
            wide.set_friendly_name(f"{constant.get_friendly_name()}/spread")
            op.input(number).replace_source_output(wide.output(0))
    model.validate_nodes_and_infer_types()


def ruined(model: Any, samples: _data.Samples) -> dict[str, str]:
    """Operators that int8 would ruin, by name, and why: see `_uneven`. StepError: NaN."""
    ops = {op.get_friendly_name(): op for op in model.get_ordered_ops()}
    kinds = BETWEEN | HEAVY
    looked_at = [op for op in ops.values() if op.get_type_name() in kinds]
    seen = _watch(model, looked_at, samples)
    constants = {
        name: _uneven.largest(op.get_data())
        for name, op in ops.items()
        if op.get_type_name() == "Constant" and op.get_element_type().is_real()
    }
    found = {}
    for op in looked_at:
        inputs = [_source(value) for value in op.input_values()]
        around = _uneven.Around(
            inputs=inputs,
            outputs=[f"{op.get_friendly_name()}:{port.get_index()}" for port in op.outputs()],
            joins=op.get_type_name() == "Concat",
            heavy=op.get_type_name() in HEAVY,
        )
        why = _uneven.why(around, seen, constants, _uneven.TO_FLOAT)
        if why:
            found[op.get_friendly_name()] = why[0]
    return found | _feeding(ops.values(), found)


def answers(model: Any, samples: _data.Samples) -> _same.Answers:
    """The outputs of a model, by their numbers, on the first runs of `samples`, in fp32."""
    import openvino as ov

    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runs = (compiled(samples.feed(run)) for run in range(min(_same.RUNS, samples.runs)))
    return [{str(n): run[port] for n, port in enumerate(compiled.outputs)} for run in runs]


def _feeding(ops: Iterable[Any], left: Mapping[str, str]) -> dict[str, str]:
    """Operators between heavy ones and those of `left`, which stay in floating point too.

    1 - mask times -1e9 is 0 only where the mask is 1 to the last bit, which no scale promises.
    """
    found: dict[str, str] = {}
    for op in reversed(list(ops)):
        name, kind = op.get_friendly_name(), op.get_type_name()
        readers = [
            reader.get_node().get_friendly_name()
            for port in op.outputs()
            for reader in port.get_target_inputs()
        ]
        last = next((reader for reader in readers if reader in left or reader in found), "")
        if last and name not in left and kind not in HEAVY | {"Parameter", "Constant"}:
            found[name] = f"feeds '{last}', which stays in floating point"
    return found


def _source(value: Any) -> str:
    """The name of an output of an operator; of a constant, behind conversions, the constant's."""
    node = value.get_node()
    while node.get_type_name() == "Convert":
        value, node = node.input_value(0), node.input_value(0).get_node()
    if node.get_type_name() == "Constant":
        return str(node.get_friendly_name())
    return f"{node.get_friendly_name()}:{value.get_index()}"


def _watch(
    model: Any, ops: Iterable[Any], samples: _data.Samples
) -> Mapping[str, _calibrate.Histogram]:
    """What floating-point outputs of `ops` and inputs of theirs are on the first runs."""
    import openvino as ov

    wanted: dict[str, Any] = {}
    for op in ops:
        for port in (*op.outputs(), *op.input_values()):
            node = port.get_node()
            if port.get_element_type().is_real() and node.get_type_name() != "Constant":
                wanted[f"{node.get_friendly_name()}:{port.get_index()}"] = (
                    node.get_friendly_name(),
                    port.get_index(),
                )
    copy = model.clone()
    copied = {op.get_friendly_name(): op for op in copy.get_ordered_ops()}
    copy.add_outputs([copied[name].output(index) for name, index in wanted.values()])
    # An output that the model had already is not added again.
    made = [out.get_node().input_value(0) for out in copy.outputs]
    places = {f"{v.get_node().get_friendly_name()}:{v.get_index()}": n for n, v in enumerate(made)}
    compiled = ov.compile_model(copy, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def tensors(run: int) -> dict[str, _data.Array]:
        results = compiled(samples.feed(run))
        return {name: results[places[name]] for name in wanted}

    runs = range(min(RUNS, samples.runs))
    return _calibrate.watch(wanted, map(tensors, runs), {n: f"'{n[:-2]}'" for n in wanted})
