"""What operators with stored weights read on calibration rows, as their weights meet it.

An operator's weights are matrices [groups, outputs, inputs]: a convolution's group with all taps of
its kernel in a row. What it reads is columns of as many inputs, one for each place where the kernel
lies; the product of both is what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from repo_builder.steps import _canonical, _data, _inner

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array: TypeAlias = npt.NDArray[Any]
Rounding: TypeAlias = Callable[[str, Array], Array]
"""Takes a tensor's name and values; gives what is left of them at run time."""

RUNS = 64
"""Runs that are looked at; more change the means by less than the rounding itself."""

COLUMNS = 8192
"""Columns kept of an operator, over all runs: several times the inputs of all but the largest."""

LARGEST = 1 << 26
"""Entries of an operator's means of products, beyond which it is passed over: 0.5 GB."""


@dataclass
class Seen:
    """Means over the columns of one operator.

    `gram` [groups, inputs, inputs] is that of products of what it will read, rounded or not,
    `mean` [groups, inputs] that of what it read in floating point, `rounded` of what it will read.
    """

    gram: Array
    mean: Array
    rounded: Array
    columns: int = 0

    def add(self, exact: Array, rounded: Array) -> None:
        """Take in columns [groups, count, inputs]."""
        count = exact.shape[1]
        self.columns += count
        share = count / self.columns
        wide = rounded.astype(np.float64)
        self.gram += share * (wide.transpose(0, 2, 1) @ wide / count - self.gram)
        self.mean += share * (exact.mean(axis=1, dtype=np.float64) - self.mean)
        self.rounded += share * (wide.mean(axis=1) - self.rounded)


def matrices(node: NodeProto, weights: Array) -> Array | None:
    """An operator's stored weights as [groups, outputs, inputs].

    None where they have no such form here: batched matrices, transposed convolutions, padding
    that the file leaves to be worked out.
    """
    made = _canonical.attributes(node)
    if node.op_type == "Conv" and made.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"):
        groups = made.get("group", 1)
        return weights.reshape(groups, len(weights) // groups, -1)
    if node.op_type == "Gemm" and not made.get("transA"):
        return (weights if made.get("transB") else weights.T)[None]
    if node.op_type == "MatMul" and weights.ndim == 2:
        return weights.T[None]
    return None


def stored_form(node: NodeProto, matrix: Array, like: Array) -> Array:
    """The other way round: [groups, outputs, inputs] as the operator stores them."""
    if node.op_type == "Conv" or _canonical.attributes(node).get("transB"):
        return matrix.reshape(like.shape)
    return np.ascontiguousarray(matrix[0].T)


def columns(node: NodeProto, values: Array, kernel: Sequence[int], most: int) -> Array:
    """Up to `most` columns [groups, count, inputs] of what an operator reads, evenly spaced.

    `kernel`: the shape of a convolution's weights; others read rows of the last axis.
    """
    if node.op_type != "Conv":
        rows = values.reshape(-1, values.shape[-1])
        return rows[_spaced(len(rows), most)][None]
    made = _canonical.attributes(node)
    space = len(kernel) - 2
    pads = made.get("pads") or [0] * 2 * space
    strides, dilations = made.get("strides") or [1] * space, made.get("dilations") or [1] * space
    padded = np.pad(values, [(0, 0), (0, 0), *zip(pads[:space], pads[space:], strict=True)])
    spans = [(k - 1) * d + 1 for k, d in zip(kernel[2:], dilations, strict=True)]
    view: Any = np.lib.stride_tricks.sliding_window_view  # its types know one axis only
    windows = view(padded, spans, axis=tuple(range(2, 2 + space)))
    steps = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    every = slice(None)
    strided = (every, every, *steps, *taps)
    windows = windows[strided]
    places = (windows.shape[0], *windows.shape[2 : 2 + space])
    chosen = np.unravel_index(_spaced(int(np.prod(places)), most), places)
    at = (chosen[0], every, *chosen[1:])
    found = windows[at]  # count, channels, taps
    groups = made.get("group", 1)
    return np.asarray(found.reshape(len(found), groups, -1).transpose(1, 0, 2))


def watch(
    model: ModelProto, nodes: Sequence[NodeProto], samples: _data.Samples, rounding: Rounding
) -> dict[str, Seen]:
    """What each of `nodes` reads, by its name; without those that are passed over.

    They read and store tensors of fp32. `rounding` says what becomes of a tensor at run time.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    seen: dict[str, Seen] = {}
    for node in nodes:
        light = np.broadcast_to(np.float32(0), shapes[node.input[1]])
        form = matrices(node, light)
        if form is None or form.shape[0] * form.shape[2] ** 2 > LARGEST:
            continue
        groups, _, inputs = form.shape
        gram, mean = np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs))
        seen[node.name] = Seen(gram, mean, mean.copy())
    watched = [node for node in nodes if node.name in seen]
    names = sorted({node.input[0] for node in watched})
    inner = sorted(set(names) - samples.arrays.keys())
    runs = min(RUNS, samples.runs)
    found = _inner.values(model, inner, samples.first(runs), optimize=True)
    for run, made in enumerate(found):
        tensors: Mapping[str, Array] = {**samples.feed(run), **made}
        left = {name: rounding(name, tensors[name]) for name in names}
        for node in watched:
            exact, rounded = (
                columns(node, values[node.input[0]], shapes[node.input[1]], COLUMNS // runs)
                for values in (tensors, left)
            )
            seen[node.name].add(exact, rounded)
    for one in seen.values():
        one.gram, one.mean, one.rounded = map(_settled, (one.gram, one.mean, one.rounded))
    return seen


def _settled(values: Array) -> Array:
    """`values` to 5 digits: processors differ in the last bits, and the built bytes must not."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, 16)), exponent - 16)


def _spaced(count: int, most: int) -> Array:
    """Up to `most` of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, max(most, 1))).astype(np.int64))
