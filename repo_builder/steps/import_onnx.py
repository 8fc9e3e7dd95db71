"""`import`: check an ONNX model and write it in the one form that all later steps read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from repo_builder.base.artifact import Signature
from repo_builder.base.errors import ModelError
from repo_builder.introspect import walk
from repo_builder.steps import _onnx
from repo_builder.steps._failures import explained


@dataclass(frozen=True)
class Params:
    """`sizes`: dynamic dimensions -> the size that is really used: see `introspect.signature`."""

    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx` and its external data, where the model says it lies."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """What the model is. `parameters` counts the elements of all stored tensors; `quantized` is the
    form in which it is quantized already (see `introspect.quantized`), or "".
    """

    signature: Signature
    opset: int
    ir_version: int
    parameters: int
    producer: str
    quantized: str = ""


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx`, and `model.onnx.data` where weights exceed `_onnx.INLINE_LIMIT`.

    Only the form changes: see `_onnx.fix_weights` and `introspect.settled`. A model that ONNX
    Runtime lacks operators of, or that is too old for it, is converted to the nearest opset that
    it has. What is written is shown to answer as the file does: `signature` tells what was changed.

    ModelError: truncated, not ONNX, empty, an opset, IR or operator that the runtime lacks,
    external data missing, cut short or outside the folder, against the ONNX standard, or another
    model once it is brought into form.
    """
    import onnx

    from repo_builder import introspect
    from repo_builder.introspect import quantized

    path = inputs.model / _onnx.MODEL
    signature = introspect.signature(path, params.sizes)
    model = _onnx.load(inputs.model)
    ir_version = model.ir_version
    model = introspect.settled(model, signature)
    _onnx.fix_weights(model)
    already = quantized.find(model)
    facts = Facts(
        signature=signature,
        opset=walk.opset(model),
        ir_version=ir_version,
        parameters=sum(map(_onnx.elements, walk.tensors(model))),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        quantized=already.form if already else "",
    )
    _onnx.save(model, out)
    del model
    with explained(f"{path.name} is not valid ONNX", "export it again", ModelError):
        onnx.checker.check_model(out / _onnx.MODEL)
    if not signature.converted_from:  # which was shown already
        why = introspect.why_not_same(path, out / _onnx.MODEL, params.sizes)
        if why:
            raise ModelError(f"{path.name}: brought into form it is another model: {why}")
    return facts
