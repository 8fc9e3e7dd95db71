"""What an ONNX file declares of its inputs and outputs, and what it uses: read, not run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.artifact import Contents, Interface, Operator, TensorType
from repo_builder.introspect import walk
from repo_builder.introspect.graph import TRITON_TYPES
from repo_builder.introspect.normal import NAMELESS

if TYPE_CHECKING:
    import onnx

_SHAPE_OF = frozenset(("Shape", "Size"))
_RANDOM = frozenset(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"))


def interface(path: Path) -> Interface | None:
    """The interface that the file declares; None where it cannot be parsed (`import` tells why).

    Inputs with an initializer are constants and are left out, as are those that are no tensors.
    """
    model = parsed(path)
    if model is None:
        return None
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    return Interface(_ports(inputs), _ports(model.graph.output))


def contents(path: Path) -> Contents | None:
    """The operators and types of the file; None where it cannot be parsed (`import` tells why)."""
    model = parsed(path)
    return None if model is None else contents_of(model)


def contents_of(model: onnx.ModelProto) -> Contents:
    """The operators and types of a model."""
    found: dict[tuple[str, str], list[str]] = {}
    for function in model.functions:
        _count(function.node, set(function.input), found)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    _count(model.graph.node, {value.name for value in inputs}, found)
    local = {(_domain(f.domain), f.name) for f in model.functions}
    return Contents(
        tuple(
            Operator(domain, kind, len(names), names[0])
            for (domain, kind), names in found.items()
            if (domain, kind) not in local
        ),
        {value.name: _type(value.type) for value in (*inputs, *model.graph.output)},
    )


def _count(nodes: Any, varying: set[str], found: dict[tuple[str, str], list[str]]) -> None:
    """Add to `found` the nodes that compute on what is `varying`; bodies of subgraphs count whole.

    Nodes may stand in any order, so what varies is followed until it grows no more.
    """
    waiting = [node for node in nodes if node.op_type not in _SHAPE_OF]
    while True:
        still = []
        for node in waiting:
            bodies = walk.bodies(node)
            uses = set(node.input) | {name for body in bodies for name in _read_in(body)}
            if not uses & varying and node.op_type not in _RANDOM:
                still.append(node)
                continue
            varying.update(filter(None, node.output))
            key = (_domain(node.domain), node.op_type)
            found.setdefault(key, []).append(node.name or next(filter(None, node.output), ""))
            for body in bodies:
                _count(body.node, _read_in(body), found)
        if len(still) == len(waiting):
            return
        waiting = still


def _read_in(body: Any) -> set[str]:
    return {name for node in body.node for name in node.input}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _type(kind: Any) -> str:
    which = kind.WhichOneof("value") or "tensor_type"
    if which != "tensor_type":
        return str(which).removesuffix("_type")
    return TRITON_TYPES.get(kind.tensor_type.elem_type, "")


def parsed(path: Path) -> onnx.ModelProto | None:
    """The model in the file, without its external data; None where it cannot be parsed."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        return None
    return model


def _ports(values: Any) -> dict[str, TensorType]:
    return {
        value.name: TensorType(TRITON_TYPES[kind.elem_type], _shape(kind))
        for value in values
        if (kind := value.type.tensor_type).elem_type in TRITON_TYPES
    }


def _shape(kind: Any) -> tuple[int | str, ...] | None:
    if not kind.HasField("shape"):
        return None
    return tuple(
        dim.dim_value
        if dim.dim_value > 0
        else dim.dim_param
        if dim.dim_param not in NAMELESS
        else ""
        for dim in kind.shape.dim
    )
