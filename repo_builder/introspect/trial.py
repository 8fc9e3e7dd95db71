"""Running a model on made-up inputs: sizes and values with which it runs, and its answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.introspect import bfloat16, runtime
from repo_builder.introspect.graph import Graph
from repo_builder.introspect.runtime import is_out_of_memory, reason_of
from repo_builder.introspect.samples import Array, Values, axis_name, concrete, draw, sizes, values

Feed = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A choice of sizes and values with which the model runs, and the outputs of that run.

    `batch` is what dimension 0 of every input was given apart from `axes`; None: nothing.
    """

    axes: dict[str, int]
    kind: Values
    outputs: list[Array]
    batch: int | None


def attempt(
    graph: Graph, batch: int | None, given: Mapping[str, int], *, other_than: Attempt | None = None
) -> tuple[Attempt | None, str]:
    """The first choice of sizes and values that runs, or None and the last failure.

    Dimensions named in `given` have that size (see `samples.axis_name`). `other_than`: every
    dimension that may be chosen has another size than there. MemoryError where none runs here and
    one of them might, on a larger machine.
    """
    failure = ""
    lacking = False
    for axes in sizes(graph.inputs, graph.hints, given, skip_batch=batch is not None):
        if other_than is not None and any(
            axes[name] == other_than.axes.get(name) for name in axes.keys() - given.keys()
        ):
            continue
        for kind in values(graph.inputs):
            try:
                outputs = run(graph, feed(graph, axes, kind, batch, row=0))
            except MemoryError:
                lacking = True
                continue
            except runtime.errors() as reason:
                failure = reason_of(reason)
                continue
            return Attempt(axes, kind, outputs, batch), ""
    if lacking:
        raise MemoryError("not enough memory")
    return None, failure


def small_batch(graph: Graph, given: Mapping[str, int]) -> tuple[Attempt | None, str]:
    """As `attempt` without a batch, with 2 in place of every open dimension 0 where that runs."""
    rows = {axis_name(t, 0): 2 for t in graph.inputs if t.shape and isinstance(t.shape[0], str)}
    tried, failure = attempt(graph, None, {**rows, **given})
    if tried or not rows:
        return tried, failure
    return attempt(graph, None, given)


def feed(graph: Graph, axes: Mapping[str, int], kind: Values, batch: int | None, row: int) -> Feed:
    """One made-up input of the model; the same `row` is always the same."""
    return {
        tensor.name: draw(tensor, concrete(tensor, axes, batch), kind, row)
        for tensor in graph.inputs
    }


def run(graph: Graph, inputs: Mapping[str, Array]) -> list[Array]:
    """One run of the model. MemoryError: this machine's lack is no fact about the model."""
    narrow = {t.name for t in (*graph.inputs, *graph.outputs) if t.dtype == "BF16"}
    try:
        return bfloat16.run(graph.session, [t.name for t in graph.outputs], inputs, narrow)
    except runtime.errors() as failure:
        if is_out_of_memory(failure):
            raise MemoryError("not enough memory") from failure
        raise


def close(graph: Graph, tensor: Tensor, a: Array, b: Array) -> bool:
    """Whether two rows are equal up to rounding, relative to the larger row's largest value."""
    if a.shape != b.shape:
        return False
    if tensor.dtype in ("STRING", "BOOL"):
        return bool(np.array_equal(a, b))
    if a.dtype.kind in "iu":
        step = int(graph.quantized and a.dtype.itemsize == 1)
        return bool(np.all(np.abs(a.astype(np.int64) - b.astype(np.int64)) <= step))
    tolerance = {"FP16": 1e-2, "BF16": 5e-2}.get(tensor.dtype, 1e-3)
    tolerance = max(tolerance, 2e-2 * graph.quantized)
    finite = np.abs(np.where(np.isfinite(a), a, 0)).astype(np.float64)
    scale = float(finite.max(initial=0.0))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return bool(np.allclose(wide_a, wide_b, rtol=tolerance, atol=tolerance * scale, equal_nan=True))
