"""`simplify`: fold constants, fuse batch norms, remove what does nothing (onnxslim)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repo_builder.steps import _onnx
from repo_builder.steps._failures import explained

WAY_OUT = "write `optimize: {simplify: false}` in the spec to build without it"


@dataclass(frozen=True)
class Params:
    """Nothing to choose."""


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx`."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """Nodes of the graph before and after."""

    nodes_before: int
    nodes_after: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Write the simplified `model.onnx`, its inputs and outputs unchanged.

    StepError where the simplifier fails, ModelError where it changes the interface.
    """
    import onnxslim

    source = _onnx.load_graph(inputs.model)
    with explained("the simplifier failed", WAY_OUT):
        slim = onnxslim.slim(_onnx.load(inputs.model))
    _onnx.unname_dimensions(source, slim)
    _onnx.require_same_interface(source, slim, "the simplifier", WAY_OUT)
    after = len(slim.graph.node)
    _onnx.save(slim, out)
    return Facts(len(source.graph.node), after)
