"""`export`: make the user's PyTorch net, and write it as the ONNX model that `import` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base.artifact import Contents
from repo_builder.nets.types import Net
from repo_builder.steps import _onnx

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True)
class Params:
    """`net`: how the net is made, and what it takes and returns."""

    net: Net


@dataclass(frozen=True)
class Inputs:
    """`code`: the factory's file, and what it imports from beside it.

    `weights`: a folder with `weights.safetensors`; None where the factory gives them.
    """

    code: Path
    weights: Path | None = None


@dataclass(frozen=True)
class Facts:
    """`opset` of the model, its `parameters` (buffers such as running means are none of them), the
    sizes of `batches` at which it was proven to answer as PyTorch does, and by how much each output
    `differs`, relative to its norm. `contents`: what a runtime must know to take it.
    """

    opset: int
    parameters: int
    batches: tuple[int, ...]
    differs: Mapping[str, float]
    contents: Contents


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx`, and `model.onnx.data` where weights exceed `_onnx.INLINE_LIMIT`.

    The bytes are the same wherever the code lies. ModelError: see `nets.factory.make`,
    `nets.export.export`, and `nets.parity.prove`, the gate at the end.
    """
    from repo_builder.nets import factory

    weights = inputs.weights / _onnx.WEIGHTS if inputs.weights else None
    module = factory.make(inputs.code, params.net, weights)
    return write(module, params.net, inputs.code, out)


def write(module: Module, net: Net, code: Path, out: Path) -> Facts:
    """As `run`, of a net that is made."""
    from repo_builder.introspect import declared
    from repo_builder.nets import export, parity

    model = export.export(module, net, code)
    contents = declared.contents_of(model)
    _onnx.save(model, out)
    proven = parity.prove(module, net, out / _onnx.MODEL, code)
    return Facts(
        opset=export.OPSET,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        batches=proven.batches,
        differs=proven.difference,
        contents=contents,
    )
