"""Rewrites after which ONNX Runtime's quantizer keeps what a node computes.

That quantizer drops beta of a Gemm, reads every bias as a vector, gives a stored tensor the scales
of its first reader for all of them, and finds nodes by name. So Gemm becomes plain, a bias becomes
a vector or an Add, names become unique, and each use of a stored tensor gets its own copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.introspect import walk

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

Array: TypeAlias = npt.NDArray[Any]

_DERIVED = ("_scale", "_zero_point", "_quantized", "_QuantizeLinear", "_DequantizeLinear")
"""How the names end that the quantizer derives from a tensor's."""


def sums(model: ModelProto) -> None:
    """Write Sum of two as Add, which has an int8 form."""
    for node in model.graph.node:
        if node.op_type == "Sum" and len(node.input) == 2:
            node.op_type = "Add"


def stored_in_fp32(model: ModelProto) -> None:
    """Store weights of 16 bits that are cast to fp32 before use as the fp32 that they become.

    ONNX Runtime writes such casts into fp16 models; behind one the quantizer sees no weights.
    """
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    narrow = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type in narrow}
    given = {value.name for value in graph.output}
    for node in list(graph.node):
        weights = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if weights is None or node.output[0] in given:
            continue
        if attributes(node)["to"] == TensorProto.FLOAT:
            wide = numpy_helper.to_array(weights).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(wide, node.output[0]))
            graph.node.remove(node)
    forget_unused(model)


def node_names(model: ModelProto) -> None:
    """Give every node of the main graph a name of its own; the first of several keeps it."""
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{number}"
            if node.name in taken:
                node.name = fresh(f"{node.name}_unnamed", taken | seen)
        elif node.name in seen:
            node.name = fresh(node.name, taken | seen)
        seen.add(node.name)


def tensor_names(model: ModelProto) -> None:
    """Rename stored and inner tensors whose names the quantizer would give to tensors it makes."""
    graph = model.graph
    border = {value.name for value in (*graph.input, *graph.output)}
    names = {name for node in walk.nodes(model) for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in graph.initializer}
    renamed: dict[str, str] = {}
    for name in sorted(names - border):
        if any(name.endswith(end) and name.removesuffix(end) in names for end in _DERIVED):
            renamed[name] = fresh(f"{name}_own", names)
    if not renamed:
        return
    for node in walk.nodes(model):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)
    for inner in walk.graphs(model):
        for value in getattr(inner, "output", ()):
            if not isinstance(value, str):
                value.name = renamed.get(value.name, value.name)


def plain_products(model: ModelProto) -> None:
    """Write every Gemm without alpha, beta and transA, its bias a vector of constants.

    One whose second operand is computed becomes MatMul; a bias that is no such vector, an Add.
    """
    _rebuild(model, "Gemm", _plain_product)


def plain_biases(model: ModelProto) -> None:
    """Write computed biases of convolutions as Add: the quantizer takes constants only."""
    _rebuild(model, "Conv", _plain_bias)
    _rebuild(model, "ConvTranspose", _plain_bias)


def copies(model: ModelProto, roles: Mapping[tuple[str, int], str]) -> None:
    """Give every role of a stored tensor a copy of its own.

    `roles`: name of a node and number of an input that is to be quantized -> how. Inputs of one
    role may share a tensor. All that is not named there keeps the original in floating point.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept = {value.name for value in graph.output} | captured(model.graph)
    uses: dict[str, dict[str, list[tuple[NodeProto, int]]]] = {}
    for node in graph.node:
        for number, name in enumerate(node.input):
            role = roles.get((node.name, number))
            if role is None:
                kept.add(name)
            elif name in stored:
                uses.setdefault(name, {}).setdefault(role, []).append((node, number))
    names = set(stored)
    for name, by_role in sorted(uses.items()):
        for place, readers in enumerate(by_role.values()):
            if place == 0 and name not in kept:
                continue
            copy = graph.initializer.add()
            copy.CopyFrom(stored[name])
            copy.name = fresh(f"{name}_copy", names)
            names.add(copy.name)
            for node, number in readers:
                node.input[number] = copy.name


def forget_unused(model: ModelProto) -> None:
    """Remove stored tensors that nothing reads."""
    used = {name for node in model.graph.node for name in node.input} | captured(model.graph)
    used |= {value.name for value in model.graph.output}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)


def captured(graph: GraphProto) -> set[str]:
    """Names of tensors that bodies of If, Loop and Scan in `graph` read."""
    found: set[str] = set()
    for node in graph.node:
        for body in walk.bodies(node):
            found |= {name for inner in body.node for name in inner.input if name}
            found |= {value.name for value in body.output}
            found |= captured(body)
    return found


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


class _Edit:
    """The main graph's stored tensors, and fresh names for what a rewrite adds."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.stored: dict[str, TensorProto] = {t.name: t for t in self.graph.initializer}
        self._names = {n for node in walk.nodes(model) for n in (*node.input, *node.output)}
        self._names |= self.stored.keys() | {value.name for value in self.graph.input}

    def array(self, name: str) -> Array | None:
        """The values of a stored tensor, or None."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.stored[name]) if name in self.stored else None

    def constant(self, name: str, values: Array) -> str:
        """Store `values` under a name like `name`."""
        from onnx import numpy_helper

        made = numpy_helper.from_array(np.ascontiguousarray(values), self.tensor(name))
        self.graph.initializer.append(made)
        self.stored[made.name] = made
        return made.name

    def tensor(self, name: str) -> str:
        """A name like `name` that nothing has."""
        made = fresh(name, self._names)
        self._names.add(made)
        return made


def _rebuild(
    model: ModelProto, kind: str, rewrite: Callable[[_Edit, NodeProto], Iterator[NodeProto]]
) -> None:
    """Put what `rewrite` yields in the place of each node of `kind`."""
    if not any(node.op_type == kind for node in model.graph.node):
        return
    edit = _Edit(model)
    nodes = [
        new
        for node in model.graph.node
        for new in (rewrite(edit, node) if node.op_type == kind else (node,))
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    forget_unused(model)


def _plain_product(edit: _Edit, node: NodeProto) -> Iterator[NodeProto]:
    from onnx import helper

    made = attributes(node)
    alpha, beta = float(made.get("alpha", 1.0)), float(made.get("beta", 1.0))
    left, right = node.input[:2]
    bias = node.input[2] if len(node.input) > 2 and beta else ""
    weight, offset = edit.array(right), edit.array(bias)
    if made.get("transA"):
        turned = edit.tensor(f"{left}_turned")
        yield helper.make_node("Transpose", [left], [turned], f"{node.name}_turn_a", perm=[1, 0])
        left = turned
    vector = None
    if weight is not None:
        width = weight.shape[0 if made.get("transB") else 1]
        if alpha != 1:
            right = edit.constant(f"{right}_scaled", (weight * alpha).astype(weight.dtype))
        if (
            offset is not None
            and offset.size in (1, width)
            and offset.shape[-1:] in ((1,), (width,), ())
        ):
            vector = np.broadcast_to((offset * beta).astype(offset.dtype).reshape(-1), (width,))
    elif made.get("transB"):
        turned = edit.tensor(f"{right}_turned")
        yield helper.make_node("Transpose", [right], [turned], f"{node.name}_turn_b", perm=[1, 0])
        right = turned
    if vector is not None:
        if beta != 1 or offset is None or offset.shape != vector.shape:
            bias = edit.constant(f"{bias}_vector", vector)
        yield _product(node, [left, right, bias], node.output[0], made)
        return
    result = edit.tensor(f"{node.output[0]}_product") if bias else node.output[0]
    if weight is not None:
        yield _product(node, [left, right], result, made)
    elif alpha != 1:
        raw = edit.tensor(f"{node.output[0]}_raw")
        yield helper.make_node("MatMul", [left, right], [raw], node.name)
        factor = edit.constant(f"{raw}_alpha", np.array(alpha, np.float32))
        yield helper.make_node("Mul", [raw, factor], [result], f"{node.name}_alpha")
    else:
        yield helper.make_node("MatMul", [left, right], [result], node.name)
    if not bias:
        return
    if offset is not None and beta != 1:
        bias = edit.constant(f"{bias}_scaled", (offset * beta).astype(offset.dtype))
    elif beta != 1:
        factor, scaled = (
            edit.constant(f"{bias}_beta", np.array(beta, np.float32)),
            edit.tensor(bias),
        )
        yield helper.make_node("Mul", [bias, factor], [scaled], f"{node.name}_beta")
        bias = scaled
    yield helper.make_node("Add", [result, bias], [node.output[0]], f"{node.name}_bias")


def _product(node: NodeProto, inputs: list[str], output: str, made: Mapping[str, Any]) -> NodeProto:
    from onnx import helper

    turned: dict[str, Any] = {"transB": 1} if made.get("transB") else {}
    return helper.make_node("Gemm", inputs, [output], node.name, **turned)


def _plain_bias(edit: _Edit, node: NodeProto) -> Iterator[NodeProto]:
    from onnx import helper

    bias = node.input[2] if len(node.input) > 2 else ""
    weight = edit.stored.get(node.input[1])
    if weight is None or not bias or bias in edit.stored:
        yield node
        return
    result, bare = node.output[0], edit.tensor(f"{node.output[0]}_without_bias")
    node.output[0] = bare
    del node.input[2:]
    yield node
    shape = edit.constant(f"{bias}_shape", np.array([1, -1, *[1] * (len(weight.dims) - 2)]))
    wide = edit.tensor(f"{bias}_wide")
    yield helper.make_node("Reshape", [bias, shape], [wide], f"{node.name}_bias_shape")
    yield helper.make_node("Add", [bare, wide], [result], f"{node.name}_bias")


def fresh(name: str, taken: set[str]) -> str:
    """`name`, or where it is taken, with the first number that is not."""
    fresh, number = name, 2
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    return fresh
