"""Where each value lies: ONNX's channels-first shapes over TFLite's channels-last tensors.

A `Value` is a stored tensor and how to read it as ONNX means it, so that most reshapes and
transpositions cost nothing; one is written only where an operator needs another order in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from repo_builder.tflite.flatbuffer import Builder, Quantization

CHANNELS_LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class Value:
    """Tensor `index` of the file, read as ONNX's `shape`.

    The stored dimensions are `virtual` permuted by `order`; `virtual` is reshaped to `shape` in
    row-major order. A feature map [1, 8, 4, 4] stored channels-last and then flattened has the
    virtual shape (1, 8, 4, 4), the order (0, 2, 3, 1) and the shape (1, 128).
    """

    index: int
    shape: tuple[int, ...]
    virtual: tuple[int, ...]
    order: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions of the stored tensor."""
        return tuple(self.virtual[axis] for axis in self.order)

    @property
    def quantization(self) -> Quantization:
        """How the values are stored."""
        return Quantization(np.array([self.scale], np.float32), self.zero_point)

    def reshaped(self, shape: tuple[int, ...]) -> Value:
        """The same tensor read with another shape."""
        return replace(self, shape=shape)

    def transposed(self, axes: tuple[int, ...]) -> Value:
        """The same tensor read with its axes in another order; `shape` must equal `virtual`."""
        shape = tuple(self.shape[axis] for axis in axes)
        return replace(
            self, shape=shape, virtual=shape, order=tuple(axes.index(a) for a in self.order)
        )


def plain(rank: int) -> tuple[int, ...]:
    """The order in which ONNX's axes lie as ONNX has them."""
    return tuple(range(rank))


def memory(
    virtual: tuple[int, ...], order: tuple[int, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each stored element, its row-major index in the virtual shape."""
    return np.arange(math.prod(virtual)).reshape(virtual).transpose(order).reshape(-1)


class Layouts:
    """Writes the reshapes and transpositions that operators need, each once."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._done: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Value] = {}

    def stored(self, value: Value, order: tuple[int, ...]) -> Value:
        """`value` as a tensor whose virtual shape is its shape, stored in `order`."""
        if value.virtual == value.shape and value.order == order:
            return value
        key = (value.index, value.shape, order)
        if key not in self._done:
            self._done[key] = self._store(value, order)
        return self._done[key]

    def natural(self, value: Value) -> Value:
        """`value` with its virtual shape equal to its shape, in the cheapest order."""
        return (
            value if value.virtual == value.shape else self.stored(value, plain(len(value.shape)))
        )

    def _store(self, value: Value, order: tuple[int, ...]) -> Value:
        dims = tuple(value.shape[axis] for axis in order)
        if np.array_equal(memory(value.virtual, value.order), memory(value.shape, order)):
            return self._reshape(value, dims, value.shape, order)
        if value.virtual == value.shape:
            return self._transpose(value, order)
        flat = self.stored(value.reshaped(value.virtual), plain(len(value.virtual)))
        return self.stored(
            self._reshape(flat, value.shape, value.shape, plain(len(value.shape))), order
        )

    def _reshape(
        self,
        value: Value,
        dims: tuple[int, ...],
        virtual: tuple[int, ...],
        order: tuple[int, ...],
    ) -> Value:
        if dims == value.dims:
            return replace(value, shape=virtual, virtual=virtual, order=order)
        index = self._like(value, dims)
        shape = self.builder.constant("shape", np.array(dims, np.int32))
        self.builder.operator(
            "RESHAPE", [value.index, shape], [index], "ReshapeOptions", newShape=list(dims)
        )
        return replace(value, index=index, shape=virtual, virtual=virtual, order=order)

    def _transpose(self, value: Value, order: tuple[int, ...]) -> Value:
        index = self._like(value, tuple(value.virtual[axis] for axis in order))
        moves = np.array([value.order.index(axis) for axis in order], np.int32)
        axes = self.builder.constant("permutation", moves)
        self.builder.operator("TRANSPOSE", [value.index, axes], [index], "TransposeOptions")
        return replace(value, index=index, order=order)

    def _like(self, value: Value, dims: tuple[int, ...]) -> int:
        name = str(self.builder.tensors[value.index].name)
        return self.builder.tensor(
            f"{name}/{'x'.join(map(str, dims))}", dims, np.int8, value.quantization
        )
