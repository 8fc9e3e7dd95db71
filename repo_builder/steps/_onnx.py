"""ONNX files as steps hand them on: `model.onnx`, with `model.onnx.data` where weights are big."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from repo_builder.base.errors import ModelError
from repo_builder.introspect import walk

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

MODEL = "model.onnx"
DATA = "model.onnx.data"
WEIGHTS = "weights.safetensors"
"""A PyTorch net's state, as steps hand it on."""
INLINE_LIMIT = 1_800_000_000
"""Bytes of weights that a file may hold itself; protobuf ends at 2 GiB."""
LEAST_FOLDED = 1 << 20
"""Bytes that a tensor made by folding constants may have, however small the weights are."""


def load(folder: Path) -> ModelProto:
    """The model of an artifact's folder, its external data read in; no trace of it is left."""
    import onnx

    model = onnx.load(folder / MODEL)
    for tensor in walk.tensors(model):
        tensor.ClearField("data_location")
    return model


def load_graph(folder: Path) -> ModelProto:
    """As `load`, without external data: enough to look at the graph of a model of any size."""
    import onnx

    return onnx.load(folder / MODEL, load_external_data=False)


def save(model: ModelProto, folder: Path) -> None:
    """Write `model` into `folder`; equal models give equal bytes.

    Weights lie inside the file up to `INLINE_LIMIT`, else all in one file beside it; the model
    object is spent then.
    """
    import onnx

    big = weights_size(model) > INLINE_LIMIT
    onnx.save_model(
        model,
        folder / MODEL,
        save_as_external_data=big,
        all_tensors_to_one_file=True,
        location=DATA,
    )


def size(folder: Path) -> int:
    """Bytes of the model's files in an artifact's folder."""
    files = (folder / name for name in (MODEL, DATA))
    return sum(file.stat().st_size for file in files if file.exists())


def fix_weights(model: ModelProto) -> None:
    """Make every stored tensor a constant, which it is for Triton: no longer an input as well.

    Before IR version 4 each had to be listed as an input; from 4 on that means that a caller may
    override it, and runtimes then fold and fuse nothing.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def weights_size(model: ModelProto) -> int:
    """Bytes that the tensors of a loaded model take in memory, by their shapes and types."""
    return sum(map(tensor_size, walk.tensors(model)))


def tensor_size(tensor: TensorProto) -> int:
    """Bytes that a tensor takes in memory, by its shape and type."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return elements(tensor) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def elements(tensor: TensorProto) -> int:
    """The number of elements of a tensor."""
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def optimized(folder: Path) -> ModelProto:
    """The model after ONNX Runtime's BASIC optimizations.

    BASIC folds constants and batch norms and removes what does nothing; it adds no operator that
    only ONNX Runtime knows (EXTENDED and above do), so the result runs anywhere. No folded tensor
    is larger than the largest weight, or `LEAST_FOLDED`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / MODEL
        options.optimized_model_filepath = str(path)
        # Written beside the file at any size, so that no limit of protobuf is met here.
        entry = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{entry}file_name", DATA)
        options.add_session_config_entry(f"{entry}min_size_in_bytes", "1024")
        entry = "optimization.constant_folding_max_output_size_in_bytes"
        options.add_session_config_entry(entry, str(_largest_folded(folder)))
        onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
        model = load(path.parent)
    _forget_unused_domains(model)
    return model


def raised(model: ModelProto, version: int, otherwise: str) -> ModelProto:
    """`model`, whose weights are in memory, in a later opset, shown to answer alike.

    `otherwise`: what a spec can say in place of it. ModelError where ONNX knows no way, or the
    model would be another one.
    """
    from repo_builder import introspect
    from repo_builder.introspect import opset
    from repo_builder.steps._failures import explained

    what = f"the model cannot be raised from opset {walk.opset(model)} to {version}"
    way_out = f"export it with opset >= {version}, or write `{otherwise}`"
    with explained(what, way_out, ModelError):
        result = opset.converted(model, version)
    with tempfile.TemporaryDirectory() as scratch:
        before, after = (Path(scratch) / name for name in ("before", "after"))
        for each, folder in ((model, before), (result, after)):
            folder.mkdir()
            copy = type(each)()
            copy.CopyFrom(each)
            save(copy, folder)
        if why := introspect.why_not_same(before / MODEL, after / MODEL):
            raise ModelError(f"{what}: {why}; {way_out}")
    return result


def _largest_folded(folder: Path) -> int:
    largest = max(map(tensor_size, walk.tensors(load_graph(folder))), default=0)
    return max(largest, LEAST_FOLDED)


def _forget_unused_domains(model: ModelProto) -> None:
    """Drop the opset imports that ONNX Runtime adds for domains that no node uses."""
    used = {"", "ai.onnx"} | {node.domain for node in walk.nodes(model)}
    kept = [o for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


Interface: TypeAlias = dict[str, tuple[int, tuple[int | str, ...]]]


def interface(model: ModelProto) -> Interface:
    """Inputs and outputs as a comparable value: side and name -> (element type, shape)."""
    sides = {"input": model.graph.input, "output": model.graph.output}
    return {
        f"{side} {value.name}": (
            value.type.tensor_type.elem_type,
            tuple(d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim),
        )
        for side, values in sides.items()
        for value in values
    }


def keep_shapes(before: ModelProto, after: ModelProto) -> None:
    """Let `after` declare the shapes of outputs that `before` declares, and none of inner tensors.

    What a tool found out or made up about them is not proven.
    """
    del after.graph.value_info[:]
    known = {value.name: value.type.tensor_type for value in before.graph.output}
    for value in after.graph.output:
        if value.name in known:
            value.type.tensor_type.shape.CopyFrom(known[value.name].shape)


def outputs(model: ModelProto) -> dict[str, tuple[int | str, ...]]:
    """The shape that a model declares for each output."""
    return {
        name.removeprefix("output "): shape
        for name, (_, shape) in interface(model).items()
        if name.startswith("output ")
    }


def unname_dimensions(before: ModelProto, after: ModelProto) -> None:
    """Take from the inputs and outputs of `after` the names of dimensions that `before` has not.

    A tool may name what it found nameless: not a fact about the model, and not in its interface.
    """
    old = {value.name: value for value in [*before.graph.input, *before.graph.output]}
    for value in [*after.graph.input, *after.graph.output]:
        if value.name not in old:
            continue
        known = old[value.name].type.tensor_type.shape.dim
        for was, dim in zip(known, value.type.tensor_type.shape.dim, strict=False):
            if dim.dim_param and not was.WhichOneof("value"):
                dim.Clear()


def require_same_interface(before: ModelProto, after: ModelProto, tool: str, fix: str) -> None:
    """ModelError where a tool changed an input or output's name, type, or shape.

    An output's dimension that was open may have become a number: a Reshape inside may fix it.
    """
    old, new = interface(before), interface(after)
    changed = [name for name in sorted({*old, *new}) if not _keeps(name, old, new)]
    if changed:
        raise ModelError(f"{tool} changed the model's {', '.join(changed)}; {fix}")


def _keeps(name: str, old: Interface, new: Interface) -> bool:
    if old.get(name) == new.get(name):
        return True
    if name not in old or name not in new or not name.startswith("output "):
        return False
    (old_type, old_shape), (new_type, new_shape) = old[name], new[name]
    return (
        old_type == new_type
        and len(old_shape) == len(new_shape)
        and all(
            a == b or (isinstance(a, str) and isinstance(b, int))
            for a, b in zip(old_shape, new_shape, strict=True)
        )
    )
