"""`import`: check an ONNX model and write it in the one form that all later steps read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.artifact import Signature
from repo_builder.base.errors import ModelError
from repo_builder.introspect import walk
from repo_builder.steps import _onnx
from repo_builder.steps._failures import explained


@dataclass(frozen=True)
class Params:
    """Nothing to choose."""


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx` and its external data, where the model says it lies."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """What the model is. `parameters` counts the elements of all stored tensors."""

    signature: Signature
    opset: int
    ir_version: int
    parameters: int
    producer: str


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Write `model.onnx`, and `model.onnx.data` where weights exceed `_onnx.INLINE_LIMIT`.

    Only the form changes: see `_onnx.fix_weights` and `introspect.declare_shapes`. A model that
    ONNX Runtime lacks operators of, or that is too old for it, is converted to the nearest opset
    that it has, if that is shown to be the same model: `signature.converted_from` tells.

    ModelError: truncated, not ONNX, empty, an opset, IR or operator that the runtime lacks,
    external data missing, cut short or outside the folder, or against the ONNX standard.
    """
    import onnx

    from repo_builder import introspect

    path = inputs.model / _onnx.MODEL
    signature = introspect.signature(path)
    with explained(f"{path.name} is not valid ONNX", "export it again", ModelError):
        onnx.checker.check_model(path)
    model = _onnx.load(inputs.model)
    ir_version = model.ir_version
    if signature.converted_from:
        model = introspect.with_opset(model, signature.opset)
    introspect.declare_shapes(model, signature)
    _onnx.fix_weights(model)
    facts = Facts(
        signature=signature,
        opset=walk.opset(model),
        ir_version=ir_version,
        parameters=sum(map(_onnx.elements, walk.tensors(model))),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
    )
    _onnx.save(model, out)
    return facts
