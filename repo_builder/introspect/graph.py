"""What an ONNX file says about itself: types, declared shapes, hints; and a session to run it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import Problem
from repo_builder.introspect import load, normal, walk
from repo_builder.introspect.load import refusal

if TYPE_CHECKING:
    import onnx

TRITON_TYPES = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "STRING",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
    16: "BF16",
}
"""onnx.TensorProto.DataType -> Triton: ConvertFromOnnxDataType in Triton's onnxruntime_utils.cc."""

_ONNX_TYPES = {name: number for number, name in TRITON_TYPES.items()}

_SESSION_TYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "STRING",
    "tensor(bool)": "BOOL",
    **{
        f"tensor({sign.lower()}int{bits})": f"{sign}INT{bits}"
        for sign in ("U", "")
        for bits in (8, 16, 32, 64)
    },
}
"""What a session of ONNX Runtime calls a type -> Triton."""


@dataclass(frozen=True)
class Graph:
    """A model that ONNX Runtime has loaded, and what its file says.

    Shapes of outputs are those that follow from the operators. `unranked` are the outputs whose
    rank only a run can tell; `declared` has the shapes that the file claims, still to be tried.
    `mended` is what was changed, in words: see `normal.mend`. `empty` are the inputs and outputs
    with the axes that the file declares with size 0; these are dynamic here: `free_empty`. `hints`
    maps (input, axis) to the size that the first operator's weights ask for. `quantized` says that
    values are rounded to integers inside, so that equal rows may differ by a step.
    """

    session: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    unranked: frozenset[str]
    declared: Mapping[str, tuple[int | str, ...]]
    mended: tuple[str, ...]
    empty: frozenset[tuple[str, int]]
    hints: dict[tuple[str, int], int]
    opset: int
    quantized: bool
    conversion: load.Conversion | None = None


def read(path: Path, *, optimize: bool = True) -> Graph:
    """Load the model at `path` and check that Triton can carry its inputs and outputs.

    Without `optimize` it runs as it is written.
    """
    model = _parse(path)
    _check_versions(model, path)
    _check_external_data(model, path)
    return of(model, path, optimize=optimize)


def of(model: onnx.ModelProto, path: Path, *, optimize: bool = True) -> Graph:
    """The same of a model that was read already, whose external data lies beside `path`.

    The shapes of its outputs are taken out.
    """
    mended = normal.mend(model)
    _check_types(model, path)
    freed = free_empty(model)
    declared = {
        value.name: tuple(dim.dim_value or dim.dim_param for dim in kind.shape.dim)
        for value in model.graph.output
        if (kind := value.type.tensor_type).HasField("shape")
    }
    _check_ranks(model, path)
    normal.forget_shapes(model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    session, model, conversion = load.session(model, path, optimize=optimize)

    def tensors(arguments: Any) -> tuple[Tensor, ...]:
        return tuple(Tensor(a.name, _SESSION_TYPES[a.type], _shape(a)) for a in arguments)

    _check_found_types(session.get_outputs(), path)
    inputs, outputs = tensors(session.get_inputs()), tensors(session.get_outputs())
    _check_sizes(outputs, path)
    retyped = [
        f"output '{tensor.name}', declared {TRITON_TYPES[types[tensor.name]]}, is {tensor.dtype}"
        for tensor in outputs
        if TRITON_TYPES.get(types[tensor.name], tensor.dtype) != tensor.dtype
    ]
    return Graph(
        session=session,
        inputs=inputs,
        outputs=outputs,
        unranked=frozenset(t.name for t in outputs if not t.shape),
        declared=declared,
        mended=(*mended, *retyped),
        empty=frozenset(freed),
        hints=_hints(model, {t.name for t in inputs}),
        opset=walk.opset(model),
        quantized=any("Quantize" in node.op_type for node in walk.nodes(model)),
        conversion=conversion,
    )


def free_empty(model: onnx.ModelProto) -> set[tuple[str, int]]:
    """Make dimensions of size 0 of inputs and outputs dynamic; returns their names and axes.

    A Triton config says only -1 or >= 1, and Triton's onnxruntime backend compares it with the
    model.
    """
    freed = set()
    for value in [*border_inputs(model), *model.graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 0:
                dim.Clear()
                freed.add((value.name, axis))
    return freed


def declare(value: onnx.ValueInfoProto, tensor: Tensor) -> None:
    """Give an input or output the type and shape of `tensor`."""
    value.type.Clear()
    kind = value.type.tensor_type
    kind.elem_type = _ONNX_TYPES[tensor.dtype]
    kind.shape.SetInParent()
    for size in tensor.shape:
        dim = kind.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size:
            dim.dim_param = size


def declare_all(values: Iterable[onnx.ValueInfoProto], tensors: Iterable[Tensor]) -> None:
    """Give inputs or outputs the types and shapes of the `tensors` of the same names."""
    known = {tensor.name: tensor for tensor in tensors}
    for value in values:
        if value.name in known:
            declare(value, known[value.name])


def border_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives: those without an initializer."""
    constants = {t.name for t in model.graph.initializer}
    constants |= {t.values.name for t in model.graph.sparse_initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _parse(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if path.stat().st_size == 0:
            raise refusal(path, "the file is empty; export the model again")
        model = onnx.load(os.fspath(path), load_external_data=False)
    except OSError as failure:
        raise refusal(path, failure.strerror or str(failure)) from None
    except (DecodeError, ValueError):
        raise refusal(path, "not an ONNX model, or cut short; export or copy it again") from None
    if not model.opset_import and not model.functions:
        raise refusal(path, "not an ONNX model: it names no operator set")
    if not model.graph.output:
        raise refusal(path, "the graph is empty: it has no output; export the model again")
    if not model.graph.node:
        raise refusal(path, "the graph is empty: it has no nodes; export the model again")
    return model


def _check_versions(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise refusal(
            path,
            f"IR version {model.ir_version} is newer than {onnx.IR_VERSION}, the newest known"
            " here; export with an older onnx, or update onnx and onnxruntime",
        )
    if walk.opset(model) > newest:
        raise refusal(
            path,
            f"opset {walk.opset(model)} is newer than {newest}, the newest known here; export"
            f" with opset {load.OLDEST_OPSET}..{newest}, or update onnx and onnxruntime",
        )


def _check_types(model: onnx.ModelProto, path: Path) -> None:
    """Every value at the border must be a tensor of a type that Triton has."""
    import onnx

    problems = []
    for kind, values in (("input", border_inputs(model)), ("output", model.graph.output)):
        for value in values:
            held = value.type.WhichOneof("value") or "no type at all"
            if kind == "output" and not value.type.WhichOneof("value"):
                continue  # the operators tell
            field = f"{kind} '{value.name}'"
            if held != "tensor_type":
                fix = "remove it from the graph's border"
                what = f"has {_article(held)}, which Triton cannot carry"
                problems.append(Problem(what, fix, field=field))
            elif value.type.tensor_type.elem_type not in TRITON_TYPES:
                number = value.type.tensor_type.elem_type
                known = number in onnx.TensorProto.DataType.values()
                name = onnx.TensorProto.DataType.Name(number).lower() if known else f"#{number}"
                what = f"has type {name}, which Triton does not have"
                problems.append(Problem(what, "cast it inside the model", field=field))
    if problems:
        raise refusal(path, "Triton cannot serve this model", problems)


def _check_found_types(outputs: Any, path: Path) -> None:
    """What the operators make of outputs whose type the file does not declare."""
    problems = [
        Problem(f"is {a.type}, which Triton cannot carry", fix, field=f"output '{a.name}'")
        for a in outputs
        if a.type not in _SESSION_TYPES
        for fix in ("cast it inside the model, or remove it from the graph's border",)
    ]
    if problems:
        raise refusal(path, "Triton cannot serve this model", problems)


def _check_ranks(model: onnx.ModelProto, path: Path) -> None:
    """Inputs must say how many dimensions they have: ONNX Runtime would take them for scalars."""
    problems = [
        Problem("declares no shape, not even its rank", _RANK, field=f"input '{value.name}'")
        for value in border_inputs(model)
        if not value.type.tensor_type.HasField("shape")
    ]
    if problems:
        raise refusal(path, "inputs are unknown", problems)


_RANK = "give the model an input shape, e.g. with onnx.tools.update_model_dims"


def _article(held: str) -> str:
    names = {
        "optional_type": "an optional type",
        "sequence_type": "a sequence type",
        "map_type": "a map type",
        "sparse_tensor_type": "a sparse tensor type",
    }
    return names.get(held, held.replace("_", " "))


def _check_sizes(outputs: tuple[Tensor, ...], path: Path) -> None:
    """No output is empty by what the operators say, whatever the file declares."""
    problems = [
        Problem(
            f"dimension {axis} always has size 0, which a Triton config cannot say",
            "remove the output, which never holds anything",
            field=f"output '{tensor.name}'",
        )
        for tensor in outputs
        for axis, size in enumerate(tensor.shape)
        if size == 0
    ]
    if problems:
        raise refusal(path, "Triton cannot serve this model", problems)


def _check_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Weights in other files must lie beside the model and exist."""
    from onnx import external_data_helper as external

    problems: dict[str, Problem] = {}
    for tensor in walk.tensors(model):
        if not external.uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        pure = PurePosixPath(location)
        if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location:
            what = f"external data '{location}' points outside the model's folder"
            problems[location] = Problem(what, "store it beside the model", field=tensor.name)
        elif not (path.parent / location).is_file():
            what = f"external data file '{location}' is missing"
            problems[location] = Problem(what, "put it beside the model", field=tensor.name)
        else:
            end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
            size = (path.parent / location).stat().st_size
            if end > size:
                what = f"external data file '{location}' is cut short: {size} of {end} bytes"
                problems[location] = Problem(what, "copy it again", field=tensor.name)
    if problems:
        raise refusal(path, "weights cannot be read", list(problems.values()))


def _shape(argument: Any) -> tuple[int | str, ...]:
    """A session's shape with "" for a dimension without a name."""
    return tuple(d if isinstance(d, (int, str)) else "" for d in argument.shape)


def _hints(model: onnx.ModelProto, inputs: set[str]) -> dict[tuple[str, int], int]:
    """Sizes that weights fix: a convolution's channels, a matrix product's inner dimension."""
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in model.graph.input}
    found: dict[tuple[str, int], int] = {}
    for node in model.graph.node:
        if len(node.input) < 2 or node.input[0] not in inputs or node.input[1] not in weights:
            continue
        name, dims = node.input[0], weights[node.input[1]]
        attributes = {a.name: a.i for a in node.attribute}
        if node.op_type == "Conv" and len(dims) > 1:
            found[name, 1] = dims[1] * attributes.get("group", 1)
        elif node.op_type == "MatMul" and len(dims) > 1:
            found[name, ranks[name] - 1] = dims[-2]
        elif node.op_type == "Gemm" and len(dims) == 2 and not attributes.get("transA"):
            found[name, 1] = dims[1] if attributes.get("transB") else dims[0]
    return found
