"""A model's interface, found by looking into the ONNX file and by running it on the CPU.

Looking gives names, types and declared shapes; running proves or refutes that dimension 0 is a
batch dimension. Nothing is guessed: what a run did not show is not claimed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base.artifact import Signature

if TYPE_CHECKING:
    import onnx


def signature(path: Path) -> Signature:
    """The interface of the ONNX model at `path`, whose batch dimension was tried by running.

    Shapes are those that ONNX Runtime reports, because Triton's onnxruntime backend compares the
    config with just these; inputs that have an initializer are constants and are left out. Where
    ONNX Runtime lacks the model's opset, it is run in another: see `Signature.converted_from`.
    `ModelError`, with the reason, for a model that cannot be read, run, or carried by Triton.
    """
    from repo_builder.introspect import graph, prove

    return prove.signature(graph.read(path))


def with_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """`model`, whose weights are in memory, converted as `signature` found it to run."""
    from repo_builder.introspect import load

    return load.with_opset(model, version)


def declare_shapes(model: onnx.ModelProto, signature: Signature) -> None:
    """Make the shapes that `model` declares for inputs and outputs those of `signature`.

    Outputs that declare none get the rank that a run showed, since Triton's onnxruntime backend
    takes them for scalars; dimensions of size 0 become dynamic: see `graph.free_empty`.
    """
    from repo_builder.introspect import graph

    graph.free_empty(model)
    found = {tensor.name: tensor.shape for tensor in signature.outputs}
    for output in model.graph.output:
        kind = output.type.tensor_type
        if not kind.HasField("shape"):
            kind.shape.SetInParent()
            for size in found[output.name]:
                dim = kind.shape.dim.add()
                if isinstance(size, int):
                    dim.dim_value = size
