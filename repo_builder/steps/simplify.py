"""`simplify`: fold constants, fuse batch norms, remove what does nothing (onnxslim)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError, StepError
from repo_builder.introspect.runtime import is_out_of_memory
from repo_builder.steps import _onnx, _slim
from repo_builder.steps._failures import explained

if TYPE_CHECKING:
    from onnx import ModelProto

WAY_OUT = "the model is built as it is"
MOST_GROWTH = 1 << 16
"""Bytes that a simplified model may be larger by: names and shapes, no folded constants."""


@dataclass(frozen=True)
class Params:
    """`sizes` as in `import`: the simplified model is tried at these."""

    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx`."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """Nodes of the graph before and after, and why it was left as it is, or ""."""

    nodes_before: int
    nodes_after: int
    why_not: str = ""


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write the simplified `model.onnx`, its inputs and outputs unchanged.

    A model that the simplifier fails on, needs too much memory or time for, makes larger, or whose
    interface or answers it changes, is passed on as it is, since nothing depends on it:
    `Facts.why_not` has the reason.
    """
    source = _onnx.load_graph(inputs.model)
    before = len(source.graph.node)
    try:
        with explained("the simplifier failed", WAY_OUT):
            slim = _simplified(inputs.model, source, params.sizes)
    except (StepError, ModelError) as failure:
        if failure.__cause__ and is_out_of_memory(failure.__cause__):
            raise  # this machine's lack is no fact about the model
        _onnx.save(_onnx.load(inputs.model), out)
        return Facts(before, before, str(failure))
    after = len(slim.graph.node)
    _onnx.save(slim, out)
    return Facts(before, after)


def _simplified(folder: Path, source: ModelProto, sizes: Mapping[str, int]) -> ModelProto:
    """The model of `folder`, simplified and shown the same. StepError, ModelError: why not."""
    import onnx

    from repo_builder import introspect

    slim = _slim.simplified(folder)
    _onnx.unname_dimensions(source, slim)
    _onnx.keep_shapes(source, slim)
    _onnx.require_same_interface(source, slim, "the simplifier", WAY_OUT)
    growth = slim.ByteSize() - _onnx.size(folder)
    if growth > MOST_GROWTH:
        raise StepError(f"simplified it is {growth / 1e6:.1f} MB larger; {WAY_OUT}")
    with tempfile.TemporaryDirectory() as scratch:
        written = onnx.ModelProto()
        written.CopyFrom(slim)
        _onnx.save(written, Path(scratch))
        onnx.checker.check_model(Path(scratch) / _onnx.MODEL)
        if why := introspect.why_not_same(folder / _onnx.MODEL, Path(scratch) / _onnx.MODEL, sizes):
            raise StepError(f"the simplifier changes the model: {why}; {WAY_OUT}")
    return slim
