"""Proof of the batch dimension: rows that run alone and rows that run together must be equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base.artifact import Signature, Tensor
from repo_builder.base.errors import ModelError
from repo_builder.introspect import bfloat16, runtime, walk
from repo_builder.introspect.graph import Graph
from repo_builder.introspect.load import Conversion
from repo_builder.introspect.runtime import first_line, is_out_of_memory
from repo_builder.introspect.samples import Array, Values, concrete, draw, sizes, values, zeros

if TYPE_CHECKING:
    from onnx import ModelProto

BATCHES = ((0, 1), (2, 0, 1))
"""The rows of each batch that is tried, against the same rows run alone."""

SAME_ROWS = 3
"""The random inputs that a converted model and its original must answer alike."""

Feed = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """A choice of sizes and values with which the model runs, and the outputs of that run."""

    axes: dict[str, int]
    kind: Values
    outputs: list[Array]


def signature(graph: Graph) -> Signature:
    """The model's interface; see `repo_builder.introspect.signature`."""
    why = _why_not_by_shape(graph)
    attempt: _Attempt | None = None
    failure = ""
    if not why:
        attempt, failure = _attempt(graph, batch=1)
        why = _why_not_by_run(graph, attempt) if attempt else ""
    if (why or failure) and (graph.unranked or _varying(graph.inputs)):
        axes_only, reason = _attempt(graph, batch=None)
        attempt, failure = (axes_only, "") if axes_only else (attempt, reason)
    if failure:
        why = why or f"no input that was tried could be run: {failure}"
    if graph.unranked and attempt is None:
        names = ", ".join(f"'{name}'" for name in sorted(graph.unranked))
        raise ModelError(
            f"the rank of output {names} is not declared and the model could not be run to find it"
            f" ({failure}); declare the output's shape in the model"
        )
    if graph.conversion is not None:
        _check_same(graph, graph.conversion)
    return Signature(
        inputs=graph.inputs,
        outputs=_ranked(graph, attempt),
        batched=not why,
        why_not_batched=why,
        opset=graph.opset,
        converted_from=walk.opset(graph.conversion.original) if graph.conversion else 0,
        dynamic_axes=attempt.axes if attempt else {},
        runs_with_zeros=_runs_with_zeros(graph, attempt.axes if attempt else {}, batched=not why),
    )


def _check_same(graph: Graph, conversion: Conversion) -> None:
    """ModelError unless the converted model is shown to answer as the file's own does."""
    if why := _why_not_same(graph, conversion.original):
        raise ModelError(
            f"{conversion.reason}; it runs in opset {conversion.opset}, but is not shown to be the"
            f" same model there: {why}"
        )


def _why_not_same(graph: Graph, original: ModelProto) -> str:
    """How the session's answers differ from those of `original`, or ""."""
    attempt, failure = _attempt(graph, batch=None)
    if attempt is None:
        return f"no input that was tried could be run: {failure}"
    try:
        answers = _runner(original)
        for row in range(SAME_ROWS):
            feed = _feed(graph, attempt.axes, attempt.kind, None, row)
            both = zip(graph.outputs, answers(feed), _run(graph, feed), strict=True)
            for tensor, want, got in both:
                if not _close(graph, tensor, np.asarray(want), got):
                    return f"output '{tensor.name}' differs"
    except Exception as failed:  # noqa: BLE001 - whatever the reference cannot do
        return first_line(failed)
    return ""


def _runner(original: ModelProto) -> Callable[[Feed], Sequence[Any]]:
    """Runs a model in ONNX Runtime, unguaranteed, else in ONNX's reference implementation.

    The first has many operators that are older than it promises, the second all new ones.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        session = runtime.session(original.SerializeToString())
    except runtime.errors():
        session = ReferenceEvaluator(original)
    return lambda feed: session.run(None, feed)


def _runs_with_zeros(graph: Graph, axes: dict[str, int], *, batched: bool) -> bool:
    """Whether the model runs with every input all zeros."""
    shapes = {t.name: concrete(t, axes, 1 if batched else None) for t in graph.inputs}
    if any(0 in shape for shape in shapes.values()):
        return False
    try:
        _run(graph, {t.name: zeros(t, shapes[t.name]) for t in graph.inputs})
    except runtime.errors():
        return False
    return True


def _varying(inputs: tuple[Tensor, ...]) -> bool:
    return any(not isinstance(size, int) for tensor in inputs for size in tensor.shape)


def _ranked(graph: Graph, attempt: _Attempt | None) -> tuple[Tensor, ...]:
    """The outputs, with the rank that a run showed where none is declared."""
    if attempt is None:
        return graph.outputs
    return tuple(
        dataclasses.replace(tensor, shape=("",) * array.ndim)
        if tensor.name in graph.unranked
        else tensor
        for tensor, array in zip(graph.outputs, attempt.outputs, strict=True)
    )


def _why_not_by_shape(graph: Graph) -> str:
    """What the declared shapes say against a batch dimension, or ""."""
    if not graph.inputs:
        return "the model has no input"
    outputs = [t for t in graph.outputs if t.name not in graph.unranked]
    for kind, tensors in (("input", graph.inputs), ("output", outputs)):
        for tensor in tensors:
            if not tensor.shape:
                return f"{kind} '{tensor.name}' is a scalar"
            if tensor.name in graph.empty:
                return f"dimension 0 of {kind} '{tensor.name}' is declared with size 0"
            if isinstance(tensor.shape[0], int):
                return f"dimension 0 of {kind} '{tensor.name}' is fixed at {tensor.shape[0]}"
    batch = {t.shape[0] for t in graph.inputs} - {""}
    for tensor in graph.inputs:
        for axis, size in enumerate(tensor.shape[1:], 1):
            if size in batch:
                return f"dimension '{size}' is also dimension {axis} of input '{tensor.name}'"
    return ""


def _attempt(graph: Graph, batch: int | None) -> tuple[_Attempt | None, str]:
    """The first choice of sizes and values that runs, or None and the last failure.

    MemoryError where none runs here and one of them might, on a larger machine.
    """
    failure = ""
    lacking = False
    for axes in sizes(graph.inputs, graph.hints, skip_batch=batch is not None):
        for kind in values(graph.inputs):
            try:
                outputs = _run(graph, _feed(graph, axes, kind, batch, row=0))
            except MemoryError:
                lacking = True
                continue
            except runtime.errors() as reason:
                failure = first_line(reason)
                continue
            return _Attempt(axes, kind, outputs), ""
    if lacking:
        raise MemoryError("not enough memory")
    return None, failure


def _feed(graph: Graph, axes: dict[str, int], kind: Values, batch: int | None, row: int) -> Feed:
    return {
        tensor.name: draw(tensor, concrete(tensor, axes, batch), kind, row)
        for tensor in graph.inputs
    }


def _why_not_by_run(graph: Graph, attempt: _Attempt) -> str:
    """What running several batch sizes says against a batch dimension, or ""."""
    rows = [_feed(graph, attempt.axes, attempt.kind, 1, row) for row in range(3)]
    if all(np.array_equal(rows[0][name], rows[1][name]) for name in rows[0]):
        return f"the model only ran with all values alike ({attempt.kind}), which proves nothing"
    try:
        alone = [_run(graph, row) for row in rows]
        again = _run(graph, rows[0])
    except runtime.errors() as failure:
        return f"a batch of 1 fails for some values: {first_line(failure)}"
    for tensor, first, second in zip(graph.outputs, alone[0], again, strict=True):
        if first.ndim == 0 or first.shape[0] != 1:
            shape = list(first.shape)
            return f"a batch of 1 gives output '{tensor.name}' the shape {shape}"
        if not _close(graph, tensor, first, second):
            return f"output '{tensor.name}' differs between two runs on the same input"
    for batch in BATCHES:
        feed = {name: np.concatenate([rows[row][name] for row in batch]) for name in rows[0]}
        try:
            together = _run(graph, feed)
        except runtime.errors() as failure:
            return f"a batch of {len(batch)} fails: {first_line(failure)}"
        for number, tensor in enumerate(graph.outputs):
            if together[number].shape[:1] != (len(batch),):
                shape = list(together[number].shape)
                return f"a batch of {len(batch)} gives output '{tensor.name}' the shape {shape}"
            for place, row in enumerate(batch):
                one = together[number][place : place + 1]
                if not _close(graph, tensor, alone[row][number], one):
                    return (
                        f"output '{tensor.name}' of a row changes with the other rows of its batch"
                    )
    return ""


def _close(graph: Graph, tensor: Tensor, a: Array, b: Array) -> bool:
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


def _run(graph: Graph, feed: Feed) -> list[Array]:
    """One run of the model. MemoryError: this machine's lack is no fact about the model."""
    try:
        return _answers(graph, feed)
    except runtime.errors() as failure:
        if is_out_of_memory(failure):
            raise MemoryError("not enough memory") from failure
        raise


def _answers(graph: Graph, feed: Feed) -> list[Array]:
    """One run's outputs; bfloat16, which numpy lacks, goes in and out as float32."""
    narrow = {t.name for t in (*graph.inputs, *graph.outputs) if t.dtype == "BF16"}
    return bfloat16.run(graph.session, [t.name for t in graph.outputs], feed, narrow)
