"""`simplify`: fold constants, fuse batch norms, remove what does nothing (onnxslim)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError, StepError
from repo_builder.introspect.runtime import is_out_of_memory
from repo_builder.steps import _onnx
from repo_builder.steps._failures import explained

if TYPE_CHECKING:
    from onnx import ModelProto

WAY_OUT = "the model is built as it is"


@dataclass(frozen=True)
class Params:
    """Nothing to choose."""


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


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Write the simplified `model.onnx`, its inputs and outputs unchanged.

    A model that the simplifier fails on, or whose interface it changes, or that is no ONNX any
    more, is passed on as it is, since nothing depends on it: `Facts.why_not` has the reason.
    """
    source = _onnx.load_graph(inputs.model)
    before = len(source.graph.node)
    try:
        with explained("the simplifier failed", WAY_OUT):
            slim = _simplified(inputs.model, source)
    except (StepError, ModelError) as failure:
        if failure.__cause__ and is_out_of_memory(failure.__cause__):
            raise  # this machine's lack is no fact about the model
        _onnx.save(_onnx.load(inputs.model), out)
        return Facts(before, before, str(failure))
    after = len(slim.graph.node)
    _onnx.save(slim, out)
    return Facts(before, after)


def _simplified(folder: Path, source: ModelProto) -> ModelProto:
    import onnx
    import onnxslim

    slim: ModelProto = onnxslim.slim(_onnx.load(folder))
    _onnx.unname_dimensions(source, slim)
    _onnx.require_same_interface(source, slim, "the simplifier", WAY_OUT)
    if _onnx.weights_size(slim) < _onnx.INLINE_LIMIT:
        onnx.checker.check_model(slim)
    return slim
