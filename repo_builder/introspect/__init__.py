"""A model's interface, found by looking into the ONNX file and by running it on the CPU.

Looking gives names, types and declared shapes; running proves or refutes that dimension 0 is a
batch dimension. Nothing is guessed: what a run did not show is not claimed. `signature` below is
the path: `graph` looks, `load` makes a session, `prove` runs it on `samples`. Changing a model
belongs to `steps/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Union

from repo_builder.base.artifact import Signature

if TYPE_CHECKING:
    import onnx

Ports = tuple[dict[str, tuple[Union[int, str], ...]], dict[str, tuple[Union[int, str], ...]]]
"""The shapes of a model's inputs and of its outputs."""


def signature(path: Path, sizes: Mapping[str, int] | None = None) -> Signature:
    """The interface of the ONNX model at `path`, whose batch dimension was tried by running.

    Shapes of inputs are those that the file declares; inputs that have an initializer are constants
    and are left out. Shapes of outputs are those that follow from the operators and that runs
    confirmed, whatever the file says. Dynamic dimensions are run with `sizes` where named there
    (`h`, or `x[2]` where it has no name), else with sizes that run. Where ONNX Runtime lacks the
    model's opset, it is run in another: see `Signature.converted_from`.
    `ModelError`, with the reason, for a model that cannot be read, run, or carried by Triton.
    """
    from repo_builder.introspect import graph, prove

    return prove.signature(graph.read(path), sizes or {})


def settled(model: onnx.ModelProto, signature: Signature) -> onnx.ModelProto:
    """`model`, whose weights are in memory, as `signature` found it to run.

    Mended (see `normal.mend`), in the opset of `signature`, and with its inputs and outputs: the
    same names, types and shapes, which Triton's onnxruntime backend compares with the config.
    """
    from repo_builder.introspect import graph, normal, opset

    normal.mend(model)
    normal.forget_shapes(model.graph.output)
    if signature.converted_from:
        model = opset.converted(model, signature.opset)
    graph.declare_all(model.graph.input, signature.inputs)
    graph.declare_all(model.graph.output, signature.outputs)
    return model


def fix_inputs(path: Path, sizes: Mapping[str, int]) -> tuple[onnx.ModelProto, Ports]:
    """The model at `path` with these sizes in place of open dimensions of its inputs.

    Names are as in `signature`. Shapes of outputs follow anew, as there; dimensions that are not
    named stay open. Returns the model, and the shapes of its inputs and outputs.
    """
    import onnx

    from repo_builder.introspect import graph, prove

    model = onnx.load(path)
    for value in graph.border_inputs(model):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            name = dim.dim_param or f"{value.name}[{axis}]"
            if dim.dim_value <= 0 and name in sizes:
                dim.dim_value = sizes[name]
    for output in model.graph.output:  # a claim only, which runs confirm
        for dim in output.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    inputs, outputs = prove.ports(graph.of(model, path))
    graph.declare_all(model.graph.output, outputs)
    shapes = ({t.name: t.shape for t in side} for side in (inputs, outputs))
    return model, (next(shapes), next(shapes))


def why_not_same(before: Path, after: Path, sizes: Mapping[str, int] | None = None) -> str:
    """How the answers of two ONNX files differ on the same made-up rows, or "".

    Names, shapes and values of all outputs are compared. Both run as they are written, without
    optimization, and maps in its outputs count as the tables that they were made of. ""
    also where nothing that was tried runs, or `before` itself answers otherwise the second time:
    nothing can be shown then. `ModelError` where `after` does not load.
    """
    from repo_builder.introspect import same

    return same.why_not(before, after, sizes or {})
