"""A model in which every layer can be rounded to 8 bits, or not, from run to run.

One session serves all questions of a search: behind each activation stands a QuantizeLinear, a
DequantizeLinear and a Where with a flag that is fed, and weights are fed too, rounded or as they
are. So asking what one layer does costs a run, and no session of its own. What is rounded is
computed in fp32: the error is that of int8's grid, not of a runtime's kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from repo_builder.steps import _calibrate, _canonical, _inner, _layers, _narrow, _quantizable
from repo_builder.steps._data import Array
from repo_builder.steps._same import Answers

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True)
class Grid:
    """How values are rounded. `signed`: activations in int8, else in uint8; `around_zero`: as far
    below 0 as above.

    `weight_bits` and `per_channel`: as in `quantize`. `shared`: all who read a tensor read it
    rounded as soon as one of them, or its maker, is in int8, as where ONNX Runtime's quantizer puts
    one pair behind a tensor; else each reader has its own.
    """

    signed: bool
    around_zero: bool
    weight_bits: Literal[7, 8]
    per_channel: bool
    shared: bool


class Switched:
    """`model` with a switch for each of `layers`, which are `nodes`.

    `ranges` are those of the tensors around. `model` stays as it is.
    """

    def __init__(
        self,
        model: ModelProto,
        nodes: Sequence[NodeProto],
        layers: Sequence[_layers.Layer],
        ranges: Mapping[str, _calibrate.Range],
        grid: Grid,
    ) -> None:
        made = _Maker(model, nodes, layers, ranges, grid)
        self._flags, self._weights = made.flags, made.weights
        self._names = [value.name for value in model.graph.output]
        self._session = _inner.session(made.model, optimize=True, pairs=True)

    def answers(
        self,
        on: Collection[int],
        feeds: Iterable[Mapping[str, Array]],
        weights: Collection[int] = (),
    ) -> Answers:
        """The outputs where the layers with the numbers `on` are rounded to 8 bits.

        Of the layers `weights` only those are.
        """
        rounded = set(on)
        narrow = rounded.union(weights)
        extra: dict[str, Array] = {
            name: np.array(not rounded.isdisjoint(by)) for name, by in self._flags.items()
        }
        for name, (layer, plain, in_8_bits) in self._weights.items():
            extra[name] = in_8_bits if layer in narrow else plain
        return [
            dict(zip(self._names, self._session.run(self._names, {**feed, **extra}), strict=True))
            for feed in feeds
        ]


def scale_and_zero(found: _calibrate.Range, grid: Grid) -> tuple[float, int]:
    """Scale and zero point of an activation: uint8, or int8 without -128."""
    largest = max(-found.low, found.high)
    if grid.signed:
        return (largest / 127 or 1.0), 0
    low, high = (-largest, largest) if grid.around_zero else (found.low, found.high)
    scale = (high - low) / 255 or 1.0
    return scale, round(-low / scale)


class _Maker:
    """Writes the model with switches: `flags` name the layers that set them, `weights` the layer
    that rounds them, with both their forms.
    """

    def __init__(
        self,
        model: ModelProto,
        nodes: Sequence[NodeProto],
        layers: Sequence[_layers.Layer],
        ranges: Mapping[str, _calibrate.Range],
        grid: Grid,
    ) -> None:
        self.grid = grid
        self.number = {name: n for n, layer in enumerate(layers) for name in layer.nodes}
        self.chosen = {node.name for node in nodes}
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.ranges = self._ranges(model, ranges)
        self.flags: dict[str, set[int]] = {}
        self.weights: dict[str, tuple[int, Array, Array]] = {}
        self.renamed: dict[tuple[str, int | None], str] = {}
        self.constants: list[Any] = []
        self.model = self._write(model)

    def _ranges(
        self, model: ModelProto, found: Mapping[str, _calibrate.Range]
    ) -> dict[str, _calibrate.Range]:
        """The ranges to round to: what a mover gives out has that of its input."""
        ranges = dict(found)
        for node in model.graph.node:
            moves = node.name in self.chosen and node.op_type in _layers.MOVERS
            if moves and node.input[0] in ranges:
                ranges.update((n, ranges[node.input[0]]) for n in node.output if n in ranges)
        return ranges

    def _write(self, model: ModelProto) -> ModelProto:
        import onnx

        made = onnx.ModelProto()
        made.CopyFrom(model)
        graph = made.graph
        nodes: list[Any] = []
        for value in graph.input:
            nodes += self._switches(value.name, None)
        for node in graph.node:
            number = self.number.get(node.name)
            rounded = _layers.values(node) if number is not None else []
            for i, name in enumerate(node.input):
                if number is not None and name in rounded and name in self.stored:
                    node.input[i] = self._fed(node, i, number)
                else:
                    shared = self.renamed.get((name, None), name)
                    node.input[i] = self.renamed.get((name, number), shared)
            nodes.append(node)
            for i, name in enumerate(node.output):
                switches = self._switches(name, number)
                if switches and name in self.outputs:
                    node.output[i] = f"{name}/given"
                nodes += switches
        written = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:], graph.value_info[:]
        graph.node.extend(written)
        graph.initializer.extend(self.constants)
        graph.input.extend(self._inputs())
        _canonical.forget_unused(made)
        return made

    def _inputs(self) -> list[Any]:
        from onnx import TensorProto, helper

        flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in self.flags]
        return flags + [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, plain.shape)
            for name, (_, plain, _) in self.weights.items()
        ]

    def _fed(self, node: NodeProto, i: int, layer: int) -> str:
        """A stored operand of a node of `layer` as an input of its own."""
        from onnx import numpy_helper

        values = numpy_helper.to_array(self.stored[node.input[i]])
        if values.dtype != np.float32:
            return str(node.input[i])
        if node.op_type in _quantizable.HEAVY:
            rounded = _narrow.rounded(
                node, values, per_channel=self.grid.per_channel, bits=self.grid.weight_bits
            )
        else:
            low, high = float(values.min(initial=0)), float(values.max(initial=0))
            found = _calibrate.Range(low, high)
            scale, zero = scale_and_zero(found, self.grid)
            least, most = (-127, 127) if self.grid.signed else (0, 255)
            steps = np.clip(np.rint(values / scale) + zero, least, most)
            rounded = np.asarray((steps - zero) * scale, np.float32)
        name = f"{node.name}/operand {i}"
        self.weights[name] = layer, values, rounded
        return name

    def _switches(self, name: str, maker: int | None) -> list[Any]:
        """The nodes behind a tensor that round it, or not, for those who read it."""
        if name not in self.ranges or self._joined(name, maker):
            return []
        by = {
            self.number[node.name]
            for node in self.readers.get(name, [])
            if node.name in self.number and name in _layers.values(node)
        }
        made_by = set() if maker is None else {maker}
        given = name in self.outputs
        if not by | made_by:
            return []
        source = f"{name}/given" if given else name
        nodes = self._rounding(name, source)
        if self.grid.shared or given:
            target = name if given else f"{name}/chosen"
            nodes.append(self._where(name, source, target, by | made_by))
            if not given:
                self.renamed[name, None] = target
        else:
            for layer in sorted(by):
                target = f"{name}/for {layer}"
                nodes.append(self._where(name, source, target, {layer}))
                self.renamed[name, layer] = target
        return nodes

    def _joined(self, name: str, maker: int | None) -> bool:
        """Whether a Relu or Clip, the only reader, is joined with the maker of the tensor."""
        readers = self.readers.get(name, [])
        return (
            not self.grid.around_zero
            and maker is not None
            and name not in self.outputs
            and len(readers) == 1
            and readers[0].op_type in _layers.RECTIFIERS
            and self.number.get(readers[0].name) == maker
        )

    def _rounding(self, name: str, source: str) -> list[Any]:
        from onnx import helper, numpy_helper

        scale, zero = scale_and_zero(self.ranges[name], self.grid)
        kind = np.int8 if self.grid.signed else np.uint8
        on_grid = [f"{name}/scale", f"{name}/zero"]
        for value, at in zip((np.float32(scale), kind(zero)), on_grid, strict=True):
            self.constants.append(numpy_helper.from_array(np.asarray(value), at))
        return [
            helper.make_node("QuantizeLinear", [source, *on_grid], [f"{name}/steps"]),
            helper.make_node("DequantizeLinear", [f"{name}/steps", *on_grid], [f"{name}/rounded"]),
        ]

    def _where(self, name: str, source: str, target: str, layers: set[int]) -> Any:
        from onnx import helper

        flag = f"{target}/in int8"
        self.flags[flag] = layers
        return helper.make_node("Where", [flag, f"{name}/rounded", source], [target])
