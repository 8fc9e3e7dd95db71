"""Weights stored in 8 or 4 bits in an ONNX graph whose activations stay in floating point.

Two forms. `unpacked`: integers that a Cast and a Mul turn into floating point when the model is
loaded, for ONNX Runtime folds constants. (It does not fold DequantizeLinear, but runs it for every
request, and joins it with a MatMul to a product whose activations it rounds to 8 bits.) `products`:
ONNX Runtime's operator MatMulNBits, which keeps blocks of 32 inputs with a scale each; its
`accuracy_level` says whether it computes in fp32 or rounds activations to 8 bits, block by block of
each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.introspect import walk
from repo_builder.steps import _canonical
from repo_builder.steps._grid import Grid

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array: TypeAlias = npt.NDArray[Any]

DOMAIN = "com.microsoft"
IN_FP32, IN_INT8 = 1, 4
"""Values of `accuracy_level`."""


class Writer:
    """Replaces stored weights of a model by integers; what several read is written once."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._names = {n for node in walk.nodes(model) for n in (*node.input, *node.output)}
        self._first: list[NodeProto] = []
        self._packed: dict[str, list[str]] = {}

    def unpacked(self, node: NodeProto, grid: Grid, integers: Array, axis: int | None) -> None:
        """Store the weights of `node` as `integers` [outputs, inputs], outputs along `axis`.

        They have int8 with the zero point of the grid; None: all in one row.
        """
        from onnx import TensorProto, helper

        name = node.input[1]
        if name in self._packed:
            return
        shape = tuple(self._stored[name].dims)
        spread = [1] * len(shape)
        if axis is not None and grid.scale.size > 1:
            spread[axis] = shape[axis]
        held = self._constant(f"{name}_int8", turned(integers.astype(np.int8), shape, axis))
        cast, scale = (
            self._fresh(f"{name}_cast"),
            self._constant(f"{name}_scale", grid.scale.reshape(spread)),
        )
        self._first.append(
            helper.make_node("Cast", [held], [cast], f"{name}_cast", to=TensorProto.FLOAT)
        )
        if grid.zero.any():
            zero = self._constant(f"{name}_zero", grid.zero.reshape(spread).astype(np.float32))
            shifted = self._fresh(f"{name}_shifted")
            self._first.append(helper.make_node("Sub", [cast, zero], [shifted], f"{name}_shifted"))
            cast = shifted
        self._first.append(helper.make_node("Mul", [cast, scale], [name], f"{name}_unpacked"))
        self._packed[name] = [name]

    def product(self, node: NodeProto, grid: Grid, integers: Array, bits: int, level: int) -> None:
        """Make `node`, a MatMul or Gemm, a MatMulNBits with `integers` [outputs, inputs].

        Integers and zero points are 0 to 2**bits - 1; without zero points 2**(bits - 1) is 0.
        """
        from onnx import helper

        name = node.input[1]
        outputs, inputs = integers.shape
        if name not in self._packed:
            zero = 1 << (bits - 1)
            held = [
                self._constant(f"{name}_int{bits}", packed(integers, grid.block, bits)),
                self._constant(f"{name}_scale", grid.scale.reshape(-1)),
            ]
            if (grid.zero != zero).any():
                zeros = packed_zeros(grid.zero, bits).reshape(-1)
                held.append(self._constant(f"{name}_zero", zeros))
            self._packed[name] = held
        bias = node.input[2] if len(node.input) > 2 else ""
        given = [node.input[0], *self._packed[name]]
        if bias:
            given += [""] * (5 - len(given)) + [bias]
        made = helper.make_node(
            "MatMulNBits",
            given,
            list(node.output),
            node.name,
            domain=DOMAIN,
            K=inputs,
            N=outputs,
            bits=bits,
            block_size=grid.block,
            accuracy_level=level,
        )
        node.CopyFrom(made)

    def finish(self) -> None:
        """Put in what was made, and take out the weights that nothing reads any more."""
        from onnx import helper

        graph = self._model.graph
        unpacked = {node.output[0] for node in self._first}
        for tensor in [t for t in graph.initializer if t.name in unpacked]:
            graph.initializer.remove(tensor)
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend([*self._first, *rest])
        _canonical.forget_unused(self._model)
        domains = {one.domain for one in self._model.opset_import}
        if DOMAIN not in domains and any(node.domain == DOMAIN for node in rest):
            self._model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _constant(self, name: str, values: Array) -> str:
        from onnx import numpy_helper

        made = numpy_helper.from_array(np.ascontiguousarray(values), self._fresh(name))
        self._model.graph.initializer.append(made)
        return made.name

    def _fresh(self, name: str) -> str:
        made = _canonical.fresh(name, self._names)
        self._names.add(made)
        return made


def matrix(weights: Array, axis: int | None) -> Array:
    """Weights as [outputs, all else], where outputs are along `axis`; None: in one row."""
    if axis is None:
        return weights.reshape(1, -1)
    return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)


def turned(integers: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    """The other way round: [outputs, all else] in the shape of the weights."""
    if axis is None:
        return integers.reshape(shape)
    rest = (size for number, size in enumerate(shape) if number != axis)
    return np.moveaxis(integers.reshape(shape[axis], *rest), 0, axis)


def packed(integers: Array, block: int, bits: int) -> Array:
    """MatMulNBits' weights: uint8 [outputs, blocks, block * bits / 8], the first of two below.

    Inputs are filled up to whole blocks, which meet no activation.
    """
    outputs, inputs = integers.shape
    blocks = -(-inputs // block)
    filled = np.zeros((outputs, blocks * block), np.uint8)
    filled[:, :inputs] = integers
    found = filled.reshape(outputs, blocks, block)
    return found if bits == 8 else found[..., ::2] | found[..., 1::2] << 4


def packed_zeros(zeros: Array, bits: int) -> Array:
    """MatMulNBits' zero points: uint8, for 4 bits two to a byte, rows filled up with 0."""
    found = zeros.astype(np.uint8)
    if bits == 8:
        return found
    even = np.pad(found, [(0, 0), (0, found.shape[1] % 2)])
    return np.asarray(even[:, ::2] | even[:, 1::2] << 4)
