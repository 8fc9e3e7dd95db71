"""Fixes the shapes of a model for toolchains that compile one shape only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repo_builder.base.errors import ModelError, Problem

if TYPE_CHECKING:
    import onnx


def size_wanted(port: onnx.ValueInfoProto) -> str:
    """How to say, in a spec, the sizes of an input's open dimensions but the first."""
    dims = port.type.tensor_type.shape.dim
    names = [dim.dim_param for dim in dims[1:] if dim.dim_value <= 0]
    if all(names):
        return "write `sizes: {" + ", ".join(f"{name}: ..." for name in names) + "}` in the spec"
    said = ["null", *(str(d.dim_value) if d.dim_value > 0 else "..." for d in dims[1:])]
    return f"write `sizes: {{{port.name}: [{', '.join(said)}]}}` in the spec"


def with_static_shapes(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    """A copy whose dynamic dimension 0 is 1, every other shape inferred anew.

    `what` begins the error: ModelError with every input dimension that is dynamic elsewhere.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {weight.name for weight in fixed.graph.initializer}
    problems = []
    for port in fixed.graph.input:
        if port.name in weights:
            continue
        for number, dim in enumerate(port.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                continue
            if number == 0:
                dim.dim_value = 1
                continue
            fix = f"this toolchain takes one shape: {size_wanted(port)}"
            name = f"dimension {number} is dynamic ({dim.dim_param or '?'})"
            problems.append(Problem(name, fix, field=f"input '{port.name}'"))
    if problems:
        raise ModelError(what, problems)
    del fixed.graph.value_info[:]
    for port in fixed.graph.output:
        port.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
