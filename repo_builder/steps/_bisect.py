"""Names the first node where a built model goes wrong, by the tensors that both graphs have.

Tools keep the names of the tensors that they keep, so a tensor of the source is looked up by its
name in the built model. What was fused away or renamed has no counterpart and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from repo_builder.steps import _inner, _onnx, _rounded
from repo_builder.steps._data import Array, Samples
from repo_builder.steps._difference import compare
from repo_builder.steps._limits import Limits, broken

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

ROWS = 4
"""Rows on which inner tensors are compared."""


def first(source: Path, built: Path, runtime: str, samples: Samples, allowed: Limits) -> str:
    """The first node of the source whose output is beyond `allowed` in the built model, in words.

    `source` is a folder with an ONNX model, `built` one with what `runtime` loads. "" where no
    tensor that both have is, or the runtime gives out no inner tensors.
    """
    if runtime == "onnxruntime":
        return _first(_onnx.load(source), _OnnxTensors(_onnx.load(built)), samples, allowed)
    if runtime.startswith("openvino"):
        return _first(_onnx.load(source), _OpenVinoTensors(built), samples, allowed)
    return ""


def first_in_fp16(source: Path, samples: Samples, allowed: Limits) -> str:
    """As `first`, of the model in `source` against itself rounded to fp16."""
    model = _rounded.taken_apart(_onnx.optimized(source))
    tensors = _OnnxTensors(_rounded.rounded(model), optimize=False)
    return _first(model, tensors, samples, allowed)


def _first(before: ModelProto, built: _Tensors, samples: Samples, allowed: Limits) -> str:
    made = _inner.makers(before)
    common = [name for name in made if name in built.names]
    rows = samples.first(ROWS)
    if not common:
        return ""
    if wrong := _wrong(before, built, common, rows, allowed):
        return made[wrong]
    # To give out all tensors keeps a runtime from fusing, which may be what goes wrong.
    low, high = 0, len(common) - 1
    if not _wrong(before, built, common[high:], rows, allowed):
        return ""
    while low < high:
        middle = (low + high) // 2
        if _wrong(before, built, common[middle : middle + 1], rows, allowed):
            high = middle
        else:
            low = middle + 1
    return made[common[low]]


def _wrong(
    before: ModelProto, built: _Tensors, names: Sequence[str], rows: Samples, allowed: Limits
) -> str:
    """The first of the tensors `names` that differs where just these are given out, or ""."""
    found: dict[str, tuple[list[Array], list[Array]]] = {name: ([], []) for name in names}
    wanted = _inner.values(before, names, rows)
    for a, b in zip(wanted, built.values(names, rows), strict=True):
        for name in names:
            found[name][0].append(a[name])
            found[name][1].append(np.asarray(b[name]))
    wrong = (n for n in names if broken(compare(n, *found[n], same_type=False), allowed))
    return next(wrong, "")


class _Tensors(Protocol):
    """A built model that gives out what it computes inside; `names` are those that it has."""

    names: Set[str]

    def values(self, names: Sequence[str], samples: Samples) -> Iterator[Mapping[str, Array]]:
        """The tensors `names` on each run."""
        ...


class _OnnxTensors:
    """Inner tensors of an ONNX model in ONNX Runtime, optimized as it is served, or as written."""

    def __init__(self, model: ModelProto, *, optimize: bool = True) -> None:
        self._model = model
        self._optimize = optimize
        self.names: Set[str] = set(_inner.makers(model))
        self._as_read = _as_read(model)

    def values(self, names: Sequence[str], samples: Samples) -> Iterator[Mapping[str, Array]]:
        read = [self._as_read.get(name, name) for name in names]
        for found in _inner.values(self._model, read, samples, optimize=self._optimize):
            yield {name: found[other] for name, other in zip(names, read, strict=True)}


def _as_read(model: ModelProto) -> dict[str, str]:
    """Tensors that are quantized before anything reads them -> what is read in their place.

    A Relu may be nothing but the lower end of that range, and its tensor holds what it was given.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for name, nodes in readers.items():
        if all(node.op_type == "QuantizeLinear" for node in nodes):
            dequantized = [n for q in nodes for n in readers.get(q.output[0], [])]
            if dequantized and dequantized[0].op_type == "DequantizeLinear":
                found[name] = dequantized[0].output[0]
    return found


class _OpenVinoTensors:
    """Inner tensors of an OpenVINO IR on its CPU device, which keep ONNX's names."""

    def __init__(self, folder: Path) -> None:
        import openvino as ov

        self._core = ov.Core()
        self._file = folder / "model.xml"
        model = self._core.read_model(self._file)
        self.names: Set[str] = {
            name
            for op in model.get_ordered_ops()
            for port in op.outputs()
            for name in port.get_names()
        }

    def values(self, names: Sequence[str], samples: Samples) -> Iterator[Mapping[str, Array]]:
        model = self._core.read_model(self._file)
        known = {name for port in model.outputs for name in port.get_names()}
        model.add_outputs([name for name in names if name not in known])
        compiled = self._core.compile_model(model, "CPU")
        request: Any = compiled.create_infer_request()
        ports = {name: port for port in compiled.outputs for name in port.get_names()}
        for run in range(samples.runs):
            found = request.infer(samples.feed(run), share_outputs=False)
            yield {name: found[ports[name]] for name in names}
