"""What a spec's `source` means, and what is wrong with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from repo_builder.base.artifact import Tensor
from repo_builder.spec.raw_source import RawSource, RawTorch, RawTorchInput
from repo_builder.spec.types import OnnxSource, Source, TorchSource, TorchType

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told a problem: the field, what is wrong, what to write."""

PICKLES = (".pt", ".pth", ".pt2", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
"""Suffixes of files that hold pickles, or may, and so may run anything when they are read."""

_TRITON: dict[TorchType, str] = {
    "float32": "FP32",
    "float64": "FP64",
    "float16": "FP16",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}
TORCH_TYPES: dict[str, TorchType] = {triton: torch for torch, triton in _TRITON.items()}
"""Triton's names of types -> PyTorch's."""


def resolve(raw: RawSource, file: Callable[[str], Path], tell: Tell) -> Source:
    """The resolved source; `tell` is told what is wrong with it.

    `file` makes a path of the spec absolute. That the files exist was asked before, but for the
    factory's.
    """
    if raw.torch is not None:
        return torch(raw.torch, file, tell)
    name = raw.onnx or ""
    if PurePosixPath(name).suffix.lower() in PICKLES:
        what = f"{name} is no ONNX but a pickle, or may hold one, and reading one runs it"
        fix = "write `torch: {factory: nets.py:make, weights: w.safetensors, ...}`"
        tell(("source", "onnx"), what, f"{fix}, and {to_safetensors(name)}")
    return OnnxSource(file(name))


def tensors(raw: RawTorch) -> tuple[Tensor, ...]:
    """The inputs of a PyTorch net, with Triton's names of types."""
    found = []
    for name, given in raw.inputs.items():
        typed = RawTorchInput(shape=given) if isinstance(given, list) else given
        found.append(Tensor(name, _TRITON[typed.dtype], tuple(typed.shape)))
    return tuple(found)


def to_safetensors(weights: str) -> str:
    """How to turn a checkpoint into safetensors, in words and a line to copy."""
    made = PurePosixPath(weights).with_suffix(".safetensors").name
    code = (
        "import torch; from safetensors.torch import save_file; "
        f'state = torch.load({json.dumps(weights)}, map_location="cpu", weights_only=True); '
        f'save_file(state.get("state_dict", state), {json.dumps(made)})'
    )
    return f"make the weights once where you trust them: python -c {shlex.quote(code)}"


def torch(raw: RawTorch, file: Callable[[str], Path], tell: Tell) -> TorchSource:
    """The resolved PyTorch source; see `resolve`."""
    at: tuple[str, ...] = ("source", "torch")
    name, _, function = raw.factory.partition(":")
    path = file(name)
    if PurePosixPath(name).suffix != ".py" or not function.isidentifier():
        file_name = name if name.endswith(".py") else "nets.py"
        what = f"'{raw.factory}' names no file and function"
        tell((*at, "factory"), what, f"write `{file_name}:make`")
    elif not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        tell((*at, "factory"), f"{what}: {name}", f"paths are relative to {file('')}/")
    if raw.weights is not None and PurePosixPath(raw.weights).suffix != ".safetensors":
        pickled = PurePosixPath(raw.weights).suffix.lower() in PICKLES
        what = (
            "is a pickle, or may hold one, and reading one runs it"
            if pickled
            else "is no .safetensors file"
        )
        tell((*at, "weights"), f"{raw.weights} {what}", to_safetensors(raw.weights))
    inputs = tensors(raw)
    _check_names(raw, tell)
    if raw.batch:
        for tensor in inputs:
            if not tensor.shape:
                fix = "write `batch: false`, or give it a dimension of rows"
                tell((*at, "inputs", tensor.name), "has no dimension 0 to count rows", fix)
    return TorchSource(
        file=path,
        function=function,
        kwargs=raw.kwargs,
        weights=file(raw.weights) if raw.weights is not None else None,
        inputs=inputs,
        outputs=tuple(raw.outputs),
        batch=raw.batch,
    )


def _check_names(raw: RawTorch, tell: Tell) -> None:
    for i, output in enumerate(raw.outputs):
        at: Any = ("source", "torch", "outputs", i)
        if output in raw.outputs[:i]:
            tell(at, f"'{output}' is named twice", "give each output a name of its own")
        elif output in raw.inputs:
            tell(at, f"'{output}' is an input too", "give each tensor a name of its own")
