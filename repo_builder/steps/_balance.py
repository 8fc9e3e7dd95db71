"""Channels of very different size brought to one, without changing what the model computes.

One int8 scale serves a whole activation, so a channel 60 times smaller than the largest keeps 4 of
256 levels. Where an operator with weights of its own makes the channels and operators with weights
read them, a factor for each channel can move from the one's weights into the others'. Between
convolutions this is cross-layer equalization (M. Nagel and others, "Data-Free Quantization through
Weight Equalization and Bias Correction", ICCV 2019); behind a normalization, SmoothQuant (G. Xiao
and others, ICML 2023), whose balance of activations against weights is used for both. All factors
are powers of two, so the answers in floating point stay the same to the last bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import ModelError
from repo_builder.steps import _canonical, _data, _onnx, _prepare, _runtimes, _same
from repo_builder.targets.types import Repair

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array: TypeAlias = npt.NDArray[Any]

KINDS: Collection[Repair] = ("equalize", "smooth")

RUNS = 16
"""Runs on which channels are measured; a large channel is large on nearly every row."""

UNEVEN = 4.0
"""The largest channel over the median one, from which on a group is balanced."""

NEAR = 0.05
"""The relative error of an int8 model up to which there is little to win."""

WORTH = 0.9
"""Channels are balanced where that leaves at most this much of the error without."""

MOST = 12
"""Factors stay within 2**-MOST and 2**MOST, far from what fp32 and fp16 lose."""

READERS = frozenset({"Conv", "MatMul", "Gemm"})
"""Operators whose weights take up the inverse factor."""

MAKERS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LayerNormalization", "Mul"})
"""Operators whose stored weights take up the factor; `Mul` by a stored vector."""

CARRIERS = frozenset(
    {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Add"}
)
"""Operators for which f(s x) = s f(x) where s > 0, channel by channel; Add of two such."""


FLAT = frozenset({"Flatten", "Reshape", "Squeeze"})
"""Operators that may put channels and space into one axis, channel by channel, before a Gemm."""


@dataclass
class Group:
    """Tensors whose channels must be scaled alike, with those who make and who read them.

    Channels are the axis `back` from the end, 1 being the last; 0 as long as it is not known.
    `flat` are readers behind one of `FLAT`. `vectors` are stored operands of Add: node and input.
    """

    back: int
    tensors: list[str] = field(default_factory=list)
    makers: dict[str, NodeProto] = field(default_factory=dict)
    readers: dict[str, NodeProto] = field(default_factory=dict)
    flat: set[str] = field(default_factory=set)
    vectors: set[tuple[str, int]] = field(default_factory=set)

    @property
    def kind(self) -> Repair:
        """`smooth` behind a normalization, or what scales channels after one; else `equalize`."""
        made_by = {node.op_type for node in self.makers.values()}
        return "smooth" if made_by & {"LayerNormalization", "Mul"} else "equalize"


def kinds(repair: Iterable[Repair]) -> list[Repair]:
    """The repairs among these that are done here."""
    return [kind for kind in repair if kind in KINDS]


def balance(
    source: Path, samples: _data.Samples, out: Path, kinds: Collection[Repair] = KINDS
) -> dict[str, float]:
    """Write the model of the folder `source` with even channels to `out`: see `balanced`.

    Writes nothing where nothing can be moved, or the model cannot be prepared.
    """
    expected = _same.answers(source, samples)
    try:
        model, _ = _prepare.prepare(_onnx.optimized(source), expected, samples)
    except ModelError:
        return {}  # its opset cannot be raised; it is served as it is
    even, uneven = balanced(model, expected, samples, kinds)
    if even is not None:
        _onnx.save(even, out)
    return uneven


def balanced(
    model: ModelProto,
    expected: _same.Answers,
    samples: _data.Samples,
    kinds: Collection[Repair] = KINDS,
) -> tuple[ModelProto | None, dict[str, float]]:
    """A copy of `model` with even channels, and how uneven its groups were, by a reader's name.

    Takes a model of the form that `_prepare.prepare` gives, and its answers to `samples`. None:
    nothing is uneven, nothing that is can be moved, or answers would change, which must not be.
    `kinds` of groups are looked at: `smooth` those that a normalization makes, `equalize` others.
    """
    import onnx

    groups = [group for group in _groups(model) if group.kind in kinds]
    if not groups:
        return None, {}
    sizes = _channels(model, groups, samples)
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    weights = _Weights(moved)
    uneven = {}
    for group in groups:
        size = np.max([sizes[name] for name in group.tensors if name in sizes], axis=0)
        used = size[size > 0]
        if used.size < 2 or used.max() < UNEVEN * np.median(used):
            continue
        factors = _factors(size, [weights.taken(n, len(size)) for n in group.readers.values()])
        if (factors == 1).all():
            continue
        weights.move(group, factors)
        uneven[next(iter(group.readers))] = float(f"{used.max() / np.median(used):.3g}")
    _canonical.forget_unused(moved)
    if not uneven or _same.difference(expected, _same.answers_of(moved, samples)):
        return None, {}
    return moved, uneven


def _factors(size: Array, taken: Sequence[Array | None]) -> Array:
    """What each channel is divided by: the square root of its size over that of its weights.

    Readers that scale every channel for itself (depthwise; None) have room for any size.
    """
    shared = [share for share in taken if share is not None]
    wanted = np.sqrt(size / np.maximum(np.max(shared, axis=0), 2.0**-MOST)) if shared else size
    live = size > 0
    powers = np.round(np.log2(wanted[live] / np.median(wanted[live])))
    factors = np.ones(len(size))
    factors[live] = 2.0 ** np.clip(powers, -MOST, MOST)
    return factors


def _channels(model: ModelProto, groups: list[Group], samples: _data.Samples) -> dict[str, Array]:
    """The largest magnitude of each channel of the groups' tensors, on the first runs.

    What a Relu reads is left out: the runtime joins it with its maker, and half of it is cut off.
    """
    import onnx

    rectified = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    back = {
        name: group.back
        for group in groups
        for name in group.tensors
        if name not in rectified or len(group.tensors) == 1
    }
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(back))
    sizes: dict[str, Array] = {}
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(observed, Path(scratch))
        runner = _runtimes.load(Path(scratch), "onnxruntime")
        for run in range(min(RUNS, samples.runs)):
            found = runner.run(samples.feed(run))
            for name, from_end in back.items():
                axis = found[name].ndim - from_end
                others = tuple(i for i in range(found[name].ndim) if i != axis)
                largest = np.nan_to_num(np.abs(found[name]).max(axis=others, initial=0.0))
                sizes[name] = np.maximum(sizes.get(name, 0.0), largest)
    return sizes


def _groups(model: ModelProto) -> Iterator[Group]:
    """The groups of a model: closed sets of tensors with makers and readers only."""
    graph = model.graph
    search = _Search(model)
    seen: set[str] = set()
    for node in graph.node:
        if node.op_type not in READERS or node.input[0] in seen:
            continue
        group = search.around(node)
        if group is not None and not seen.intersection(group.tensors):
            seen.update(group.tensors)
            yield group


class _Search:
    """Grows groups over a graph."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.made = {name: node for node in graph.node for name in node.output if name}
        self.read: dict[str, list[tuple[NodeProto, int]]] = {}
        for node in graph.node:
            for number, name in enumerate(node.input):
                self.read.setdefault(name, []).append((node, number))
        self.open = {value.name for value in (*graph.input, *graph.output)}
        self.open |= _canonical.captured(graph)

    def around(self, reader: NodeProto) -> Group | None:
        """The group that the input of `reader` belongs to; None where it cannot be scaled."""
        start, maker = reader.input[0], self.made.get(reader.input[0])
        group = Group(back=1)
        if reader.op_type == "Conv":
            group.back = self._rank(reader) - 1
        elif maker is not None and maker.op_type in FLAT:
            start, group.back = maker.input[0], 0
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name in group.tensors:
                continue
            if name in self.open or name not in self.made:
                return None
            group.tensors.append(name)
            for node, number in [(self.made[name], -1), *self.read.get(name, [])]:
                more = self._met(group, node, number)
                if more is None:
                    return None
                waiting.extend(more)
        return group if group.makers and group.readers else None

    def _met(self, group: Group, node: NodeProto, number: int) -> list[str] | None:
        """The tensors that come into the group with `node`, which reads (`number`) or makes (-1)
        one of it; None where it does not carry factors.
        """
        if number >= 0 and (node.op_type in READERS or node.op_type in FLAT):
            readers = [node] if node.op_type in READERS else self._behind(group, node)
            if number or not readers or not all(self._fits(group, n, node) for n in readers):
                return None
            group.readers.update((reader.name, reader) for reader in readers)
            group.flat.update(reader.name for reader in readers if reader is not node)
            return []
        if number < 0 and node.op_type in MAKERS and self._makes(group, node):
            group.makers[node.name] = node
            return []
        if node.op_type not in CARRIERS or len(node.output) != 1:
            return None
        if group.back == 1 and node.op_type not in ("Relu", "LeakyRelu", "Add"):
            return None
        stored = [place for place, name in enumerate(node.input) if name in self.stored]
        if not all(self._vector(group, node.input[place]) for place in stored):
            return None
        group.vectors.update((node.name, place) for place in stored)
        given = [name for place, name in enumerate(node.input) if place not in stored]
        return [*given, *node.output]

    def _behind(self, group: Group, node: NodeProto) -> list[NodeProto]:
        """The products that read what `node` flattens; none where others do, too."""
        found = self.read.get(node.output[0], [])
        products = [reader for reader, number in found if number == 0 and reader.op_type == "Gemm"]
        whole = group.back != 1 and node.output[0] not in self.open
        return products if whole and len(products) == len(found) else []

    def _makes(self, group: Group, node: NodeProto) -> bool:
        """Whether the weights of `node` can take up a factor for each channel that it makes."""
        if node.op_type == "Mul":
            vectors = [name for name in node.input if name in self.stored]
            return len(vectors) == 1 and self._vector(group, vectors[0])
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias and len(self.stored.get(bias, ())) != 1:
            return False
        attributes = _canonical.attributes(node)
        if node.op_type == "LayerNormalization":
            last = attributes.get("axis", -1) == -1 and self._rank(node) == 1
            return group.back == 1 and last
        if node.op_type == "ConvTranspose" and attributes.get("group", 1) != 1:
            return False
        if not group.back and self._rank(node) > 2:
            group.back = self._rank(node) - 1
        return self._fits(group, node, node)

    def _fits(self, group: Group, node: NodeProto, through: NodeProto) -> bool:
        """Whether a node's stored weights have the axes of the group, seen `through` itself or one
        of `FLAT`.
        """
        if node.op_type in ("Conv", "ConvTranspose"):
            return self._rank(node) >= 3 and group.back == self._rank(node) - 1
        return self._rank(node) == 2 and (group.back == 1) == (through is node)

    def _rank(self, node: NodeProto) -> int:
        return len(self.stored.get(node.input[1], ()))

    def _vector(self, group: Group, name: str) -> bool:
        """Whether a stored tensor is one value for each channel, and for nothing else."""
        dims = self.stored[name]
        at = len(dims) - group.back
        return bool(group.back) and at >= 0 and 1 < dims[at] == int(np.prod(dims))


class _Weights:
    """The stored tensors of a model, scaled copy by copy."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes = {node.name: node for node in model.graph.node}
        self._uses: dict[str, int] = {}
        for node in model.graph.node:
            for name in node.input:
                self._uses[name] = self._uses.get(name, 0) + 1

    def taken(self, reader: NodeProto, channels: int) -> Array | None:
        """How large the weights for each channel are, of those for the same output, 0 to 1.

        None: every channel has a scale of its own.
        """
        weights = self._array(self._nodes[reader.name], 1)
        if reader.op_type == "Conv":
            groups = _canonical.attributes(reader).get("group", 1)
            if groups > 1 and weights.shape[1] == 1:
                return None
            flat = np.abs(weights).max(axis=tuple(range(2, weights.ndim)), initial=0.0)
            by_group = flat.reshape(groups, -1, flat.shape[1])  # groups, outputs, inputs
        else:
            turned = _canonical.attributes(reader).get("transB")
            by_input = np.abs(weights if turned else weights.T)
            by_group = by_input.reshape(1, len(by_input), channels, -1).max(axis=3)
        largest = by_group.max(axis=2, keepdims=True)
        share = np.divide(by_group, largest, out=np.zeros_like(by_group), where=largest > 0)
        return np.asarray(share.max(axis=1).reshape(-1), np.float64)

    def move(self, group: Group, factors: Array) -> None:
        """Divide what the group's makers make by `factors`, and multiply what its readers take."""
        for name in group.makers:
            self._divide(self._nodes[name], group, factors)
        for name, number in sorted(group.vectors):
            self._scale(self._nodes[name], number, 1 / factors, -group.back)
        for name in group.readers:
            node = self._nodes[name]
            weights, made = self._array(node, 1), _canonical.attributes(node)
            if node.op_type == "Conv":
                groups = made.get("group", 1)
                by_output = np.repeat(factors.reshape(groups, -1), len(weights) // groups, axis=0)
                shaped = by_output.reshape(*weights.shape[:2], *[1] * (weights.ndim - 2))
                self._store(node, 1, weights * shaped)
                continue
            axis = 1 if made.get("transB") else 0
            self._scale(node, 1, np.repeat(factors, weights.shape[axis] // len(factors)), axis)

    def _divide(self, node: NodeProto, group: Group, factors: Array) -> None:
        if node.op_type == "Mul":
            (number,) = [i for i, name in enumerate(node.input) if name in self._stored]
            self._scale(node, number, 1 / factors, -group.back)
            return
        axes = {"Conv": 0, "ConvTranspose": 1, "LayerNormalization": 0, "MatMul": 1}
        turned = 0 if _canonical.attributes(node).get("transB") else 1
        self._scale(node, 1, 1 / factors, axes.get(node.op_type, turned))
        if len(node.input) > 2 and node.input[2]:
            self._scale(node, 2, 1 / factors, 0)

    def _scale(self, node: NodeProto, number: int, factors: Array, axis: int) -> None:
        values = self._array(node, number)
        shape = [1] * values.ndim
        shape[axis] = len(factors)
        self._store(node, number, values * factors.reshape(shape))

    def _array(self, node: NodeProto, number: int) -> Array:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._stored[node.input[number]]))

    def _store(self, node: NodeProto, number: int, values: Array) -> None:
        """Give `node` these values; other readers of the tensor keep the old ones."""
        from onnx import numpy_helper

        name = node.input[number]
        dtype = self._array(node, number).dtype
        new = numpy_helper.from_array(np.ascontiguousarray(values, dtype), name)
        if self._uses[name] == 1:
            self._stored[name].CopyFrom(new)
            return
        self._uses[name] -= 1
        fresh = f"{name}_balanced_{node.name}"
        new.name = fresh
        self._graph.initializer.append(new)
        self._stored[fresh] = self._graph.initializer[-1]
        self._uses[fresh] = 1
        node.input[number] = fresh
