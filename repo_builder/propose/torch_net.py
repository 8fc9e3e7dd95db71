"""A PyTorch net that `init` is asked about: made and exported as a build does, to be looked at."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.digest import Json
from repo_builder.base.errors import ModelError, UsageError
from repo_builder.nets.types import Net
from repo_builder.spec.types import TorchSource

if TYPE_CHECKING:
    from torch.nn import Module


def source(
    factory: str,
    kwargs: Mapping[str, Json],
    weights: Path | None,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    *,
    batch: bool,
) -> TorchSource:
    """What a spec with these values would name; paths are relative to this folder.

    `inputs` and `outputs` may be empty: see `exported`. UsageError for what a spec may not say.
    """
    from repo_builder.base import validate
    from repo_builder.base.document import Document, Place
    from repo_builder.spec import resolve_source
    from repo_builder.spec.raw_source import RawTorch

    said = {
        "factory": factory,
        "kwargs": dict(kwargs),
        "weights": None if weights is None else str(weights),
        "inputs": dict(inputs) or {"x": [1]},
        "outputs": list(outputs) or ["the output"],
        "batch": batch,
    }
    raw, problems = validate.check(RawTorch, Document(said, {(): Place("", 0)}))
    if not isinstance(raw, RawTorch):
        raise UsageError("; ".join(map(str, problems)))

    def tell(_at: tuple[str, ...], what: str, fix: str) -> None:
        raise UsageError(f"{what}; {fix}")

    found = resolve_source.torch(raw, Path, tell)
    if weights is not None and not weights.is_file():
        raise UsageError(f"--weights {weights}: no such file")
    return dataclasses.replace(
        found,
        inputs=found.inputs if inputs else (),
        outputs=found.outputs if outputs else (),
    )


def exported(net: TorchSource, scratch: Path) -> tuple[TorchSource, Path]:
    """`net` with the names of its outputs, and the ONNX file that it was exported to.

    UsageError, with the parameters of its `forward`, where `net` has no inputs. ModelError where it
    cannot be made or exported, MissingExtra without torch.
    """
    from repo_builder.nets import imports
    from repo_builder.run import isolated

    code, out = scratch / "code", scratch / "onnx"
    out.mkdir()
    for name in imports.beside(net.file, imports.imports_of):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(net.file.parent / name, code / name)
    made = Net(net.file.name, net.function, net.kwargs, net.inputs, net.outputs, net.batch)
    outputs = isolated.call(net.file, export, code, made, net.weights, out)
    return dataclasses.replace(net, outputs=outputs), out / "model.onnx"


def export(code: Path, net: Net, weights: Path | None, out: Path) -> tuple[str, ...]:
    """Make and export a net into the folder `out`; the names of its outputs.

    For a process of its own.
    """
    from repo_builder.nets import factory
    from repo_builder.steps import export_torch

    module = factory.make(code, net, weights)
    if not net.inputs:
        raise UsageError(_which_inputs(module, net))
    if not net.outputs:
        net = dataclasses.replace(net, outputs=_outputs(module, net, code))
    export_torch.write(module, net, code, out)
    return net.outputs


def _which_inputs(module: Module, net: Net) -> str:
    parameters = inspect.signature(module.forward).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    example = " ".join(f"--input {name}=1,3,224,224" for name in needed or ["x"])
    return f"say the shape of what {net.factory} takes ({', '.join(needed) or 'x'}): {example}"


def _outputs(module: Module, net: Net, code: Path) -> tuple[str, ...]:
    """Names for what the net returns: a dict's keys, else `output`, or `output0` and so on."""
    from repo_builder.nets import export, rows

    result = export.tried(module, net, rows.tensors(net, 2, seed=0), code)
    if isinstance(result, Mapping):
        return tuple(map(str, result))
    count = len(result) if isinstance(result, (tuple, list)) else 1
    if count == 0:
        raise ModelError(f"{net.factory} returns nothing; return tensors")
    return ("output",) if count == 1 else tuple(f"output{i}" for i in range(count))
