"""`join-signal`: a net with its spec's `signal` in front, so that it takes samples.

What is joined is compared with the same in numpy, in 64 bits and by a Fourier transform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base.errors import ModelError, did_you_mean
from repo_builder.introspect import walk
from repo_builder.plan.front import SIGNAL_PREFIX
from repo_builder.steps import _in_front, _onnx, _signal_front

if TYPE_CHECKING:
    from onnx import ValueInfoProto

_LIMIT = 1e-3
"""How far a value may lie from numpy's, of the largest less the smallest on the rows tried."""


@dataclass(frozen=True)
class Params:
    """`kind` and its `params`: see `repo_builder.spec.raw_signal`."""

    kind: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with the net's `model.onnx` and its external data."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """The largest difference from numpy, of the range of values: see `_LIMIT`."""

    largest: float


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx`, whose input of the same name is [n, samples] or [n, samples, channels].

    ModelError: no such input, one that does not take what is made, an opset that cannot be raised,
    or operators that answer otherwise than numpy.
    """
    import onnx

    model = _onnx.load(inputs.model)
    _onnx.fix_weights(model)
    if walk.opset(model) < _signal_front.OPSET:
        model = _onnx.raised(model, _signal_front.OPSET, "signal: null")
    said, name = params.params, str(params.params["input"])
    inputs_of = {value.name: value for value in model.graph.input}
    if name not in inputs_of:
        fix = did_you_mean(name, inputs_of)
        raise ModelError(f"signal.{params.kind}.input: the model has no input '{name}'; {fix}")
    _in_front.refuse_names(model, SIGNAL_PREFIX, name)
    taken = inputs_of[name]
    found, largest = _tried(params)
    rank = _rank(taken, found.shape[1:], params.kind)
    made, last = _signal_front.front(params.kind, said, name, rank)
    sizes = _sizes(params)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(said["dtype"]))
    _in_front.put(model, taken, made, last, element, sizes)
    _onnx.save(model, out)
    onnx.checker.check_model(out / _onnx.MODEL)
    return Facts(largest)


def _sizes(params: Params) -> tuple[int, ...]:
    said = params.params
    return (said["samples"], *([said["channels"]] if params.kind == "sensor" else []))


def _rank(taken: ValueInfoProto, made: tuple[int, ...], kind: str) -> int:
    """Dimensions of the net's input; ModelError where it does not take [n, *made]."""
    import onnx

    tensor = taken.type.tensor_type
    dims = [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim]
    inner = dims[2:] if len(dims) == 4 and dims[1] in (1, "?") else dims[1:]
    fits = len(inner) == 2 and all(
        isinstance(had, str) or had == size for had, size in zip(inner, made, strict=True)
    )
    if tensor.elem_type != onnx.TensorProto.FLOAT or not fits:
        element = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ModelError(
            f"signal.{kind}: '{taken.name}' of the model is {element} {dims}, "
            f"and what is made FLOAT ['n', {made[0]}, {made[1]}]; correct `samples` or `layout`"
        )
    return len(dims)


def _tried(params: Params) -> tuple[np.ndarray[Any, Any], float]:
    """What the operators make of noise and tones, and how far that lies from numpy's."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    front, last = _signal_front.front(params.kind, params.params, "x", 3)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(params.params["dtype"]))
    sizes = _sizes(params)
    graph = helper.make_graph(
        front.nodes,
        "signal",
        [helper.make_tensor_value_info("x", element, ["n", *sizes])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [None] * 3)],
        front.constants,
    )
    opset = helper.make_opsetid("", _signal_front.OPSET)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    time = np.arange(sizes[0])
    tone = np.sin(time * 0.3) + 0.2 * np.sin(time * time * 1e-4)
    tone = tone[:, None] if len(sizes) > 1 else tone
    rows = 0.3 * tone + random.normal(0, 0.1, (3, *sizes))
    samples = (rows / _signal_front.scale(params.params)).astype(params.params["dtype"])
    found = session.run(None, {"x": samples})[0]
    wanted = _signal_front.expected(params.kind, params.params, samples)
    if found.shape != wanted.shape:
        raise ModelError(f"signal: operators made {found.shape} of {wanted.shape}")
    extent = max(float(np.ptp(wanted)), 1e-12)
    largest = float(np.abs(found - wanted).max()) / extent
    if not largest <= _LIMIT:
        raise ModelError(
            f"signal: as operators it differs from numpy by {largest:.2g} of the range of values; "
            f"at most {_LIMIT} is allowed: a larger `floor` keeps silence from mattering"
        )
    return found, float(f"{largest:.2g}")
