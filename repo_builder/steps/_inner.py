"""The tensors inside a model: which are numbers, what they hold, how large they get."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.steps import _onnx
from repo_builder.steps._data import Array, Samples

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Peak:
    """The node that makes a tensor, in words, and the largest absolute value in it."""

    node: str
    value: float


def floats(model: ModelProto) -> set[str]:
    """The outputs of nodes of the main graph that are fp32, as ONNX Runtime types them."""
    return {name for name, kind in _types(model).items() if kind == "tensor(float)"}


def makers(model: ModelProto) -> dict[str, str]:
    """Every tensor that a node of the main graph makes -> that node in words, in their order."""
    return {
        name: f"node '{node.name or name}' ({node.op_type})"
        for node in model.graph.node
        for name in node.output
        if name
    }


def peaks(model: ModelProto, samples: Samples) -> dict[str, Peak]:
    """The largest absolute value of every fp32 tensor over all `samples`, inputs first.

    NaN do not count, infinity is fp32's largest number.
    """
    made, numbers = makers(model), floats(model)
    names = [name for name in made if name in numbers]
    given = {name: array for name, array in samples.arrays.items() if array.dtype.kind == "f"}
    found = {name: _largest(array) for name, array in given.items()} | dict.fromkeys(names, 0.0)
    made |= {name: f"input '{name}'" for name in given}
    for inner in values(model, names, samples):
        for name, array in inner.items():
            found[name] = max(found[name], _largest(array))
    return {name: Peak(made[name], value) for name, value in found.items()}


def _largest(array: Array) -> float:
    largest = np.max(np.abs(array), initial=0.0, where=~np.isnan(array))
    return float(min(largest, np.finfo(np.float32).max))


def values(
    model: ModelProto, names: Sequence[str], samples: Samples, *, optimize: bool = False
) -> Iterator[dict[str, Array]]:
    """The inner tensors `names` on each of the `samples`."""
    for found in _run(_copy(model), names, samples, optimize=optimize):
        yield dict(zip(names, found, strict=True))


def _run(
    model: ModelProto, names: Sequence[str], samples: Samples, *, optimize: bool = False
) -> Iterator[list[Array]]:
    known = {value.name for value in model.graph.output}
    _give_out(model, [name for name in names if name not in known])
    running = session(model, optimize=optimize)
    inputs = {node.name for node in running.get_inputs()}
    for run in range(samples.runs):
        feed = {name: array for name, array in samples.feed(run).items() if name in inputs}
        found = running.run(list(names), feed) if names else []  # of no names it would give all
        yield [np.asarray(array) for array in found]


def _types(model: ModelProto) -> Mapping[str, str]:
    copy = _copy(model)
    known = {value.name for value in copy.graph.output}
    _give_out(copy, [name for name in makers(copy) if name not in known])
    return {node.name: node.type for node in session(copy).get_outputs()}


def _give_out(model: ModelProto, names: Sequence[str]) -> None:
    """Make inner tensors outputs; ONNX Runtime finds their types."""
    import onnx

    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)


def _copy(model: ModelProto) -> ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def session(model: ModelProto, *, optimize: bool = False, pairs: bool = False) -> Any:
    """A session of a model in memory, of any size.

    `pairs`: pairs of QuantizeLinear and DequantizeLinear are run as they are. Else ONNX Runtime
    takes some out, or computes between them in integers, where it optimizes.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if pairs:
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    if not optimize:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(model, Path(scratch))
        return ort.InferenceSession(
            Path(scratch) / _onnx.MODEL, settings, providers=["CPUExecutionProvider"]
        )
