"""An ONNX model in the one form that later steps read: well formed, and with no doubtful claim.

ONNX Runtime takes more than the standard allows: nodes in any order, negative dimensions, opset
imports left out. It also forgives what a file declares wrongly, which other tools believe. So what
ONNX Runtime forgives is mended here, and what a file says of shapes beyond its inputs is taken out,
to be found again from the operators and by running.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from repo_builder.introspect import walk

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
_FLOAT = 1
"""onnx.TensorProto.FLOAT, which ZipMap's maps hold."""
_TOLD = 20
"""Classes that are named at most."""
NAMELESS = frozenset({"?", "-1", "None", "*"})
"""What exporters write for a dimension without a name, also for several that differ."""


def mend(model: onnx.ModelProto) -> tuple[str, ...]:
    """Bring `model` into that form, in place; in words, what a user of the model may notice.

    What it computes stays the same. ZipMap, whose maps no server carries, leaves the tensor that
    it was given under the name of its maps: one column for each class.
    """
    told = _without_zipmap(model)
    for graph in walk.graphs(model):
        del graph.value_info[:]
        if graph is not model.graph:
            forget_shapes(value for value in graph.output if not isinstance(value, str))
        _keep_last(getattr(graph, "initializer", ()))  # a function has none
        if _sort(graph):
            told.append("nodes sorted, each after those that it reads")
    _store_as_bytes(walk.tensors(model))
    _keep_last(model.graph.output)
    model.graph.name = model.graph.name or "graph"
    _name_apart(model)
    _import_opsets(model)
    for value in [*model.graph.input, *model.graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param in NAMELESS:
                dim.Clear()
            if dim.dim_value < 0:
                dim.Clear()
                told.append(f"dimension {axis} of '{value.name}', declared negative, is dynamic")
    return tuple(dict.fromkeys(told))


def forget_shapes(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Take out the shapes that outputs declare."""
    for value in values:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def classes(model: onnx.ModelProto) -> dict[str, tuple[str | int, ...]]:
    """Outputs that a ZipMap writes -> its classes, one for each column that it is given."""
    found: dict[str, tuple[str | int, ...]] = {}
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            words = [word.decode() for a in node.attribute for word in a.strings]
            numbers = [number for a in node.attribute for number in a.ints]
            found[node.output[0]] = (*words, *numbers)  # one of both is empty
    return found


def _without_zipmap(model: onnx.ModelProto) -> list[str]:
    """Remove every ZipMap that writes an output of the graph."""
    outputs = {value.name: value for value in model.graph.output}
    removed = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "ZipMap" and node.output[0] in outputs
    }
    if not removed:
        return []
    known = classes(model)
    kept = [node for node in model.graph.node if node.output[0] not in removed]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    told = []
    for name, source in removed.items():
        outputs[name].type.Clear()
        outputs[name].type.tensor_type.elem_type = _FLOAT
        _rename(model, source, name)
        columns = ", ".join(map(str, known[name][:_TOLD]))
        columns += ", ..." if len(known[name]) > _TOLD else ""
        told.append(f"output '{name}' is a table of scores, not maps (ZipMap): {columns}")
    return told


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Let the tensor `old` of the main graph be called `new`, where it is no input or output."""
    from onnx import helper

    border = {v.name for v in [*model.graph.input, *model.graph.output]}
    if old in border:
        model.graph.node.append(helper.make_node("Identity", [old], [new]))
        return
    for graph in walk.graphs(model):
        for node in graph.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == old:
                        names[position] = new


def _keep_last(values: Any) -> None:
    """Of those of one name keep the last, as ONNX Runtime does."""
    last = {value.name: value for value in values}
    if len(last) < len(values):
        kept = list(last.values())
        del values[:]
        values.extend(kept)


def _sort(graph: Any) -> bool:
    """Put every node after those that it reads, else as they stood; whether that changed any.

    A circle is left to the runtime, which names it.
    """
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [
        {maker[n] for n in _reads(node) if n in maker} - {i} for i, node in enumerate(graph.node)
    ]
    if all(max(need, default=-1) < i for i, need in enumerate(needs)):
        return False
    readers: dict[int, list[int]] = {}
    for i, need in enumerate(needs):
        for source in need:
            readers.setdefault(source, []).append(i)
    ready = [i for i, need in enumerate(needs) if not need]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for reader in readers.get(i, ()):
            needs[reader].discard(i)
            if not needs[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        return False
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes[i] for i in order)
    return True


def _reads(node: Any) -> Iterator[str]:
    """Every name that a node or a node of its subgraphs reads, and what those give out."""
    yield from node.input
    for body in walk.bodies(node):
        yield from (value.name for value in body.output)
        for inner in body.node:
            yield from _reads(inner)


def _store_as_bytes(tensors: Iterable[onnx.TensorProto]) -> None:
    """Store float8 that stands in `int32_data` as raw bytes.

    OpenVINO (2026.4) rounds those numbers to float8 instead of taking them for its bits.
    """
    from onnx import TensorProto

    for tensor in tensors:
        name = TensorProto.DataType.Name(tensor.data_type)
        if name.startswith("FLOAT8") and tensor.int32_data:
            tensor.raw_data = bytes(number & 0xFF for number in tensor.int32_data)
            tensor.ClearField("int32_data")


def _name_apart(model: onnx.ModelProto) -> None:
    """Give nodes of one graph that share a name different ones; ONNX Runtime refuses them."""
    for graph in walk.graphs(model):
        taken = {node.name for node in graph.node}
        seen: set[str] = set()
        for node in graph.node:
            if node.name in seen:
                number = 1
                while f"{node.name}_{number}" in taken:
                    number += 1
                node.name = f"{node.name}_{number}"
                taken.add(node.name)
            if node.name:
                seen.add(node.name)


def _import_opsets(model: onnx.ModelProto) -> None:
    """Name the operator sets that nodes use and the file does not; twins are left out.

    ONNX Runtime takes its newest version of those: as far as onnx knows them, the same.
    """
    import onnx

    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain in _STANDARD else opset.domain
        versions[domain] = max(versions.get(domain, 0), opset.version)
    used = {"" if node.domain in _STANDARD else node.domain for node in walk.nodes(model)}
    for domain in sorted(
        used - versions.keys() - {function.domain for function in model.functions}
    ):
        known = (
            s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain
        )
        versions[domain] = max(known, default=1)
    if {o.domain: o.version for o in model.opset_import} == versions:
        return
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in versions.items())
