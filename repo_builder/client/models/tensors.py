"""Tensors as a model declares them, and the checked inputs of one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# What an application gives: arrays by name, or the only input's array.
Inputs = Mapping[str, Any] | Any

# Triton's data types: enum name -> (name on the wire, numpy's type). BF16 travels as its upper two
# bytes; in numpy it is float32.
TRITON_TYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "TYPE_BOOL": ("BOOL", np.dtype(np.bool_)),
    **{
        f"TYPE_{sign}INT{bits}": (f"{sign}INT{bits}", np.dtype(f"{sign.lower()}int{bits}"))
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    **{f"TYPE_FP{bits}": (f"FP{bits}", np.dtype(f"float{bits}")) for bits in (16, 32, 64)},
    "TYPE_BF16": ("BF16", np.dtype(np.float32)),
    "TYPE_STRING": ("BYTES", np.dtype(object)),
}
DTYPES = dict(TRITON_TYPES.values())


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model.

    name      as in `Result.outputs`
    datatype  Triton's name: FP32, INT64, UINT8, BYTES ...
    dims      the shape without the batch axis; -1: any size
    optional  whether a call may leave the input out
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """numpy's type; of BYTES `object`, of BF16 float32."""
        return DTYPES[self.datatype]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether `shape`, without the batch axis, is one of this tensor's."""
        return len(shape) == len(self.dims) and all(
            want in (-1, got) for want, got in zip(self.dims, shape, strict=True)
        )


class Signature:
    """Names, types and shapes of one call's tensors, known to fit the model.

    Made once and kept with the model, as most calls of an application look alike. `headers` is
    where transport/wire.py keeps the request headers that belong to it, `outputs` where
    transport/shared_memory.py keeps the sizes in bytes that its outputs had.
    """

    __slots__ = ("headers", "outputs", "rows", "shapes", "single", "tensors")

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        shapes: tuple[tuple[int, ...], ...],
        rows: int | None,
        single: bool,
    ) -> None:
        self.tensors = tensors
        self.shapes = shapes
        self.rows = rows
        self.single = single
        self.headers: dict[tuple[Any, ...], bytes] = {}
        self.outputs: dict[str, int] = {}


class Batch:
    """Validated inputs of one call: C-contiguous arrays in the signature's order.

    `rows` None: the model has no batch axis. `single`: one sample was given, without that axis.
    """

    __slots__ = ("arrays", "count", "signature")

    def __init__(self, signature: Signature, arrays: Sequence[Array]) -> None:
        self.signature = signature
        self.arrays = arrays
        self.count = 1 if signature.rows is None else signature.rows

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes (BYTES tensors count as nothing)."""
        return sum(a.nbytes for a in self.arrays if a.dtype != object)

    def named(self) -> dict[str, Array]:
        """The arrays by name, with the batch axis if the model has one."""
        signature = self.signature
        parts = zip(signature.tensors, self.arrays, signature.shapes, strict=True)
        return {tensor.name: array.reshape(shape) for tensor, array, shape in parts}

    def rows_of(self, rows: npt.NDArray[np.intp]) -> dict[str, Array]:
        """Only these rows, in this order, by name."""
        if self.signature.rows is None:
            return self.named()
        return {name: array[rows] for name, array in self.named().items()}
