"""Proof of the batch dimension: rows that run alone and rows that run together must be equal."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base.artifact import Signature, Tensor
from repo_builder.base.errors import ModelError
from repo_builder.introspect import runtime, walk
from repo_builder.introspect.graph import Graph
from repo_builder.introspect.load import Conversion
from repo_builder.introspect.outputs import settle
from repo_builder.introspect.runtime import reason_of
from repo_builder.introspect.samples import axis_name, concrete, values, zeros
from repo_builder.introspect.trial import Attempt, Feed, attempt, close, feed, run, small_batch

if TYPE_CHECKING:
    from onnx import ModelProto

BATCHES = ((0, 1), (2, 0, 1))
"""The rows of each batch that is tried, against the same rows run alone."""

SAME_ROWS = 3
"""The random inputs that a converted model and its original must answer alike."""

SLOW = 1.0
"""Seconds of a run, or of two, from which on a batch is tried with smaller inputs."""


def signature(graph: Graph, given: Mapping[str, int]) -> Signature:
    """The model's interface; see `repo_builder.introspect.signature`."""
    graph = _names_apart(graph, given)
    why = _why_not_by_shape(graph)
    tried: Attempt | None = None
    failure = ""
    if not why:
        begun = time.perf_counter()
        tried, failure = attempt(graph, 1, given)
        small = None
        if given and time.perf_counter() - begun > SLOW:  # a batch is one at any size
            small, _ = attempt(graph, 1, {})
        why = _why_not_by_run(graph, small or tried) if tried else ""
    if why or failure:
        axes_only, reason = attempt(graph, None, given)
        tried, failure = (axes_only, "") if axes_only else (tried, reason)
    if failure and _varying(graph.inputs):
        why = why or f"no input that was tried could be run: {failure}"
    silent = sorted(graph.unranked - graph.declared.keys())
    if silent and tried is None:
        names = ", ".join(f"'{name}'" for name in silent)
        raise ModelError(
            f"the rank of output {names} is not declared and the model could not be run to find it"
            f" ({failure}); declare the output's shape in the model"
        )
    if graph.conversion is not None:
        _check_same(graph, graph.conversion, given)
    outputs, wrong = settle(graph, *_shapes(graph, tried, given))
    axes = tried.axes if tried else dict(given)
    return Signature(
        inputs=graph.inputs,
        outputs=outputs,
        batched=not why,
        why_not_batched=why,
        opset=graph.opset,
        dynamic_axes=axes,
        runs_with_zeros=_runs_with_zeros(graph, axes, batched=not why),
        converted_from=walk.opset(graph.conversion.original) if graph.conversion else 0,
        mended=(*graph.mended, *wrong),
        may_be_empty=_may_be_empty(graph, axes),
    )


def ports(graph: Graph) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs with their shapes, and nothing about batches."""
    tried, _ = small_batch(graph, {})
    outputs, _ = settle(graph, *_shapes(graph, tried, {}))
    return graph.inputs, outputs


def _names_apart(graph: Graph, given: Mapping[str, int]) -> Graph:
    """`graph`, without names of dimensions that stand for different sizes in different inputs.

    That is shown where the model runs with these dimensions apart and not with them alike.
    """
    places = Counter(size for tensor in graph.inputs for size in tensor.shape[1:] if size)
    shared = {name for name, count in places.items() if count > 1 and isinstance(name, str)}
    if not shared or attempt(graph, None, given)[0] is not None:
        return graph
    inputs = tuple(
        dataclasses.replace(t, shape=tuple("" if size in shared else size for size in t.shape))
        for t in graph.inputs
    )
    told = [f"dimensions called '{name}' are of different sizes" for name in sorted(shared)]
    apart = dataclasses.replace(graph, inputs=inputs, mended=(*graph.mended, *told))
    return graph if attempt(apart, None, given)[0] is None else apart


def _shapes(
    graph: Graph, tried: Attempt | None, given: Mapping[str, int]
) -> tuple[list[Mapping[str, int]], list[list[tuple[int, ...]]]]:
    """Sizes of dynamic dimensions in runs that differ as much as they may, and all shapes there."""
    if tried is None:
        return [], []
    found = [(tried.axes, tried.outputs)]
    if _unconfirmed(graph):
        batch = None if tried.batch is None else tried.batch + 1
        other, _ = attempt(graph, batch, given, other_than=tried)
        if other is None and batch is not None:
            other, _ = attempt(graph, batch, tried.axes)
        if other is not None:
            found.append((other.axes, other.outputs))
        inputs = feed(graph, tried.axes, tried.kind, tried.batch, row=1)
        with contextlib.suppress(*runtime.errors()):  # these values do not run
            found.append((tried.axes, run(graph, inputs)))
    shapes = [[array.shape for array in outputs] for _, outputs in found]
    return [axes for axes, _ in found], shapes


def _unconfirmed(graph: Graph) -> bool:
    """Whether the file claims a size of an output that does not follow from the operators."""
    for tensor in graph.outputs:
        claim = graph.declared.get(tensor.name, ())
        known = tensor.shape if len(tensor.shape) == len(claim) else ("",) * len(claim)
        if any(
            isinstance(said, int) and isinstance(real, str)
            for said, real in zip(claim, known, strict=True)
        ):
            return True
    return False


def _check_same(graph: Graph, conversion: Conversion, given: Mapping[str, int]) -> None:
    """ModelError unless the converted model is shown to answer as the file's own does."""
    if why := _why_not_same(graph, conversion.original, given):
        raise ModelError(
            f"{conversion.reason}; it runs in opset {conversion.opset}, but is not shown to be the"
            f" same model there: {why}"
        )


def _why_not_same(graph: Graph, original: ModelProto, given: Mapping[str, int]) -> str:
    """How the session's answers differ from those of `original`, or ""."""
    tried, failure = attempt(graph, None, given)
    if tried is None:
        return f"no input that was tried could be run: {failure}"
    try:
        answers = _runner(original)
        for row in range(SAME_ROWS):
            inputs = feed(graph, tried.axes, tried.kind, None, row)
            both = zip(graph.outputs, answers(inputs), run(graph, inputs), strict=True)
            for tensor, want, got in both:
                if not close(graph, tensor, np.asarray(want), got):
                    return f"output '{tensor.name}' differs"
    except Exception as failed:  # noqa: BLE001 - whatever the reference cannot do
        return reason_of(failed)
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
        run(graph, {t.name: zeros(t, shapes[t.name]) for t in graph.inputs})
    except runtime.errors():
        return False
    return True


def _may_be_empty(graph: Graph, axes: Mapping[str, int]) -> tuple[str, ...]:
    """The inputs that the file declares with size 0, where the model runs so."""
    declared = {
        axis_name(tensor, axis): 0
        for tensor in graph.inputs
        for axis in range(len(tensor.shape))
        if (tensor.name, axis) in graph.empty
    }
    if not declared:
        return ()
    for kind in values(graph.inputs):
        try:
            run(graph, feed(graph, {**axes, **declared}, kind, None, row=0))
        except runtime.errors():
            continue
        return tuple(t.name for t in graph.inputs if any(n == t.name for n, _ in graph.empty))
    return ()


def _varying(inputs: tuple[Tensor, ...]) -> bool:
    return any(not isinstance(size, int) for tensor in inputs for size in tensor.shape)


def _why_not_by_shape(graph: Graph) -> str:
    """What the declared shapes say against a batch dimension, or ""."""
    if not graph.inputs:
        return "the model has no input"
    outputs = [t for t in graph.outputs if t.name not in graph.unranked]
    for kind, tensors in (("input", graph.inputs), ("output", outputs)):
        for tensor in tensors:
            if not tensor.shape:
                return f"{kind} '{tensor.name}' is a scalar"
            if (tensor.name, 0) in graph.empty:
                return f"dimension 0 of {kind} '{tensor.name}' is declared with size 0"
            if isinstance(tensor.shape[0], int):
                return f"dimension 0 of {kind} '{tensor.name}' is fixed at {tensor.shape[0]}"
    batch = {t.shape[0] for t in graph.inputs} - {""}
    for tensor in graph.inputs:
        for axis, size in enumerate(tensor.shape[1:], 1):
            if size in batch:
                return f"dimension '{size}' is also dimension {axis} of input '{tensor.name}'"
    return ""


def _why_not_by_run(graph: Graph, tried: Attempt) -> str:
    """What running several batch sizes says against a batch dimension, or ""."""
    rows = [feed(graph, tried.axes, tried.kind, 1, row) for row in range(3)]
    if all(np.array_equal(rows[0][name], rows[1][name]) for name in rows[0]):
        return f"the model only ran with all values alike ({tried.kind}), which proves nothing"
    try:
        alone = [run(graph, row) for row in rows]
        again = run(graph, rows[0])
    except runtime.errors() as failure:
        return f"a batch of 1 fails for some values: {reason_of(failure)}"
    for tensor, first, second in zip(graph.outputs, alone[0], again, strict=True):
        if first.ndim == 0:
            return f"output '{tensor.name}' is a scalar"
        if first.shape[0] != 1:
            shape = list(first.shape)
            return f"a batch of 1 gives output '{tensor.name}' the shape {shape}"
        if not close(graph, tensor, first, second):
            return f"output '{tensor.name}' differs between two runs on the same input"
    for batch in BATCHES:
        joined = {name: np.concatenate([rows[row][name] for row in batch]) for name in rows[0]}
        try:
            together = run(graph, joined)
        except runtime.errors() as failure:
            return f"a batch of {len(batch)} fails: {reason_of(failure)}"
        for number, tensor in enumerate(graph.outputs):
            if together[number].shape[:1] != (len(batch),):
                shape = list(together[number].shape)
                return f"a batch of {len(batch)} gives output '{tensor.name}' the shape {shape}"
            for place, row in enumerate(batch):
                one = together[number][place : place + 1]
                if not close(graph, tensor, alone[row][number], one):
                    return (
                        f"output '{tensor.name}' of a row changes with the other rows of its batch"
                    )
    return ""
