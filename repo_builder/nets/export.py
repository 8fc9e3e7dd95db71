"""Turns a net into an ONNX model that tells nothing of the machine that made it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError
from repo_builder.introspect import walk
from repo_builder.nets import rows
from repo_builder.nets._failures import failed, reason_of, root, where
from repo_builder.nets.forward import answer, call
from repo_builder.nets.types import Net

if TYPE_CHECKING:
    import onnx
    from torch.nn import Module

OPSET = 18
"""The oldest that the exporter writes. Asked for an older one it tries to convert this, and where
that fails, as for every ReduceMean, it only warns."""

_ROWS = 2
"""Rows of the example: PyTorch may take a size of 0 or 1 for fixed."""

_WRAPPED = "net"
_FIXED_ROWS = ("user-specified ranges and inferred ranges", "Constraints violated")
"""What the exporter says where a dimension that shall be open turns out to be fixed."""
_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


def export(module: Module, net: Net, folder: Path) -> onnx.ModelProto:
    """`module`, in eval mode, as ONNX with the inputs and outputs that `net` names.

    Equal nets give equal bytes wherever their code lies: what the exporter notes of source files
    and stacks is taken out. `folder` is that of the code, for the lines in errors.

    ModelError where forward fails, returns what `net` does not name, or cannot be traced, as where
    it branches on values.
    """
    import torch

    # It tells of every extension that is not installed and that the net may not use.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    example = rows.tensors(net, _ROWS, seed=0)
    check(module, net, example, folder)

    class Wrapper(torch.nn.Module):  # type: ignore[misc]
        """Takes and returns tuples in the order of the names, whatever the net itself does."""

        def __init__(self) -> None:
            super().__init__()
            setattr(self, _WRAPPED, module)

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            inputs = dict(zip(example, given, strict=True))
            return tuple(call(module, net, inputs).values())

    open_rows = {0: "batch"} if net.batch else {}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Wrapper().eval(),
                tuple(example.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(example),
                output_names=list(net.outputs),
                dynamic_shapes=(tuple(open_rows for _ in example),),
                verbose=False,
            )
    except Exception as failure:
        raise _refusal(net, failure, folder) from failure
    model: onnx.ModelProto = program.model_proto
    if (got := walk.opset(model)) != OPSET:
        raise ModelError(
            f"{net.factory} was exported to opset {got}, not {OPSET}; use another torch"
        )
    _unwrap(model)
    _forget_origin(model)
    return model


def check(module: Module, net: Net, inputs: Any, folder: Path) -> dict[str, Any]:
    """What `module` answers to `inputs`, by name; ModelError, with the line, where it fails."""
    answers: dict[str, Any] = tried(module, net, inputs, folder, call)
    return answers


def tried(
    module: Module,
    net: Net,
    inputs: Any,
    folder: Path,
    how: Callable[[Module, Net, Any], Any] = answer,
) -> Any:
    """What `how` makes of `inputs`; ModelError, with the line, where the net's forward fails."""
    import torch

    try:
        with torch.no_grad():
            return how(module, net, inputs)
    except ModelError:
        raise
    except Exception as failure:
        shapes = ", ".join(f"'{name}' {list(value.shape)}" for name, value in inputs.items())
        fix = "see `inputs`, or mend the net"
        raise failed(net.factory, f"failed on {shapes}", failure, folder, fix) from failure


def _refusal(net: Net, failure: Exception, folder: Path) -> ModelError:
    """Why a net cannot be exported, of the many lines that the exporter says."""
    began = root(failure)
    at = where(failure, folder)
    reason = reason_of(began)
    if "data-dependent" in str(began) or "data-dependent" in str(failure):
        what = f"{net.factory} cannot be exported: its path depends on the values of its inputs"
        fix = (
            "write it with torch.where or torch.cond, or export it yourself and name the ONNX file"
        )
        return ModelError(f"{what}{at} ({reason}); {fix}")
    if net.batch and any(sign in str(began) for sign in _FIXED_ROWS):
        what = f"{net.factory} cannot be exported for any number of rows: {_ROWS} rows are built in"
        return ModelError(f"{what}{at}; use x.shape[0] as it is, or write `batch: false`")
    if unknown := _NO_OPERATOR.search(str(began)):
        reason = f"it has no operator for {unknown[1]}"
    fix = "write it with others, or export it yourself and name the ONNX file"
    return ModelError(f"{net.factory} cannot be exported to ONNX: {reason}{at}; {fix}")


def _unwrap(model: onnx.ModelProto) -> None:
    """Call weights as the net does, not as the wrapper that was exported."""
    prefix = f"{_WRAPPED}."
    stored = {tensor.name for tensor in model.graph.initializer}
    new = {name: name.removeprefix(prefix) for name in stored if name.startswith(prefix)}
    if new.keys() & new.values() or set(new.values()) & (stored - new.keys()):
        return  # a name would be another's
    for graph in walk.graphs(model):
        for value in (*getattr(graph, "initializer", ()), *graph.value_info):
            value.name = new.get(value.name, value.name)
        for node in graph.node:
            node.input[:] = [new.get(name, name) for name in node.input]


def _forget_origin(model: onnx.ModelProto) -> None:
    """Take out where things come from: source files, stacks of calls, modules."""
    _forget(model)
    for function in model.functions:
        _forget(function)
    for graph in walk.graphs(model):
        _forget(graph)
        for things in (graph.node, graph.value_info):
            for thing in things:
                _forget(thing)
        for values in ("input", "output", "initializer"):
            for value in getattr(graph, values):
                if not isinstance(value, str):  # a function's are names
                    _forget(value)


def _forget(thing: Any) -> None:
    thing.ClearField("doc_string")
    thing.ClearField("metadata_props")
