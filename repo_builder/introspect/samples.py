"""Inputs to try a model with: sizes for its varying dimensions, and random rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from repo_builder.base.artifact import Tensor
from repo_builder.introspect import bfloat16

Array = npt.NDArray[Any]
Values = int | Literal["ones", "zeros"]

SIZES = (8, 32, 64, 224, 1, 2, 3, 4, 16, 1024)
"""Sizes to try for dimensions that nothing else fixes, in this order: the last for sound."""

IMAGE_SIZES = (64, 224, 32, 8, 1, 2, 3, 4, 16)
"""The same where an input looks like an image: nets that shrink it leave nothing of 8 pixels."""

VALUES: tuple[Values, ...] = (8, 2, "ones", "zeros")
"""Integers below 8, below 2 (indices and lengths are often small), then constants."""

_NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.float32,
    "FP32": np.float32,
    "FP64": np.float64,
}


LARGEST = 50_000_000
"""The most elements that an input is given while sizes are tried."""


def values(inputs: tuple[Tensor, ...]) -> tuple[Values, ...]:
    """The kinds of values to try; floating-point inputs need only one."""
    whole = any(t.dtype not in ("FP16", "BF16", "FP32", "FP64") for t in inputs)
    return VALUES if whole else VALUES[:1]


def axis_name(tensor: Tensor, axis: int) -> str:
    """The name of a varying dimension: its own, or `x[1]` where the model gives none."""
    return str(tensor.shape[axis]) or f"{tensor.name}[{axis}]"


def sizes(
    inputs: tuple[Tensor, ...],
    hints: Mapping[tuple[str, int], int],
    given: Mapping[str, int],
    skip_batch: bool,
) -> Iterator[dict[str, int]]:
    """Sizes to try for the varying dimensions: those `given`, else hints, else all alike.

    `given` has names as of `axis_name`. With `skip_batch` dimension 0 of every input is left to
    the caller.
    """
    free: dict[str, int] = {}
    fixed: dict[str, int] = {}
    for tensor in inputs:
        for axis, size in enumerate(tensor.shape):
            if isinstance(size, int) or (skip_batch and axis == 0):
                continue
            name = axis_name(tensor, axis)
            free.setdefault(name, 0)
            if name in given:
                fixed[name] = given[name]
            elif (tensor.name, axis) in hints:
                fixed[name] = hints[tensor.name, axis]
    if not free.keys() - fixed.keys():
        yield {name: fixed[name] for name in free}
        return
    images = any(
        len(t.shape) == 4 and not all(isinstance(d, int) for d in t.shape[1:]) for t in inputs
    )
    for size in IMAGE_SIZES if images else SIZES:
        axes = {name: fixed.get(name, size) for name in free}
        shapes = [concrete(t, axes, 1 if skip_batch else None) for t in inputs]
        if all(math.prod(shape) <= LARGEST for shape in shapes):
            yield axes


def concrete(tensor: Tensor, axes: Mapping[str, int], batch: int | None) -> tuple[int, ...]:
    """The tensor's shape with sizes put in; `batch`, where given, is dimension 0."""
    shape = [
        size if isinstance(size, int) else axes.get(axis_name(tensor, axis), 0)
        for axis, size in enumerate(tensor.shape)
    ]
    if batch is not None:
        shape[0] = batch
    return tuple(shape)


def draw(tensor: Tensor, shape: tuple[int, ...], kind: Values, seed: int) -> Array:
    """A random array; the same arguments give the same array on every machine.

    BF16 comes as float32 of just its values, since numpy has no such type.
    """
    random = np.random.default_rng([seed, *tensor.name.encode()])
    if tensor.dtype in ("FP16", "FP32", "FP64"):
        return random.standard_normal(shape).astype(_NUMPY[tensor.dtype])
    if tensor.dtype == "BF16":
        return bfloat16.widened(bfloat16.bits(random.standard_normal(shape)))
    if isinstance(kind, int):
        whole = random.integers(0, kind, shape)
    else:
        whole = np.full(shape, int(kind == "ones"))
    if tensor.dtype == "STRING":
        return np.asarray(whole.astype(str), dtype=object)
    if tensor.dtype == "BOOL":
        return np.asarray(whole % 2, dtype=np.bool_)
    return np.asarray(whole, dtype=_NUMPY[tensor.dtype])


def zeros(tensor: Tensor, shape: tuple[int, ...]) -> Array:
    """An array of zeros, or of empty strings."""
    if tensor.dtype == "STRING":
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, _NUMPY[tensor.dtype])
