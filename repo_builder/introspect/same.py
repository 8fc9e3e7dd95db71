"""Whether a rewritten model answers as the model did before: both run on the same made-up rows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.introspect import bfloat16, graph, normal, runtime
from repo_builder.introspect.graph import Graph
from repo_builder.introspect.runtime import reason_of
from repo_builder.introspect.samples import Array
from repo_builder.introspect.trial import Attempt, Feed, close, feed, run, small_batch

ROWS = 3
"""Rows that both answer; one where a run takes longer than `SLOW` seconds."""
SLOW = 1.0
_ROUNDING = 4.0
"""How many times more than a change of the inputs' last bits a rewrite may change the outputs."""


def why_not(before: Path, after: Path, sizes: Mapping[str, int]) -> str:
    """See `repo_builder.introspect.why_not_same`."""
    new = graph.read(after, optimize=False)
    begun = time.perf_counter()
    tried, _ = small_batch(new, sizes)
    if tried is None:
        return ""
    rows = ROWS if time.perf_counter() - begun < SLOW else 1
    try:
        session = runtime.session(os.fspath(before), optimize=False)
    except runtime.errors():
        return ""  # the file as it is does not run: nothing to compare with
    names = [output.name for output in session.get_outputs()]
    if missing := sorted({tensor.name for tensor in new.outputs} ^ set(names)):
        return f"its outputs {', '.join(missing)} are not those of before"
    maps = {output.name for output in session.get_outputs() if "map" in output.type}
    return _answers(new, tried, session, rows, normal.classes(_parsed(before)) if maps else {})


def _parsed(path: Path) -> Any:
    import onnx

    return onnx.load(path, load_external_data=False)


def _table(maps: Array, classes: Sequence[Any]) -> Array:
    """Maps from class to probability, one for each row, as ZipMap was given them."""
    return np.array([[row[name] for name in classes] for row in maps], np.float32)


def _answers(
    new: Graph, tried: Attempt, session: Any, rows: int, maps: Mapping[str, Sequence[Any]]
) -> str:
    """`maps`: outputs of before that are maps -> their classes in order."""
    for row in range(rows):
        inputs = feed(new, tried.axes, tried.kind, None, row)
        try:
            old = _run(session, new, inputs)
        except runtime.errors() as failure:
            if row == 0:
                return ""
            if _fails(new, inputs):
                continue  # as the model did before, on these values
            return reason_of(failure)
        got = run(new, inputs)
        why = _difference(new, old, got, maps)
        if not why:
            continue
        again = _run(session, new, inputs)
        if not all(map(_equal, old, again)):
            return ""  # chance is at work
        shaken = _run(session, new, _shaken(inputs))
        if not all(map(_within_rounding, old, got, shaken)):
            return why
    return ""


def _fails(new: Graph, inputs: Feed) -> bool:
    try:
        run(new, inputs)
    except runtime.errors():
        return True
    return False


def _shaken(inputs: Feed) -> Feed:
    """The inputs with every other number changed by its last bit."""
    return {
        name: np.where(
            np.arange(array.size).reshape(array.shape) % 2, np.nextafter(array, 0), array
        )
        if array.dtype.kind == "f"
        else array
        for name, array in inputs.items()
    }


def _within_rounding(old: Array, got: Array, shaken: Array) -> bool:
    """Whether a difference is of the size that the last bits of the inputs make as well."""
    if old.shape != got.shape or old.shape != shaken.shape or old.dtype.kind != "f":
        return _equal(old, got)
    if not np.array_equal(np.isfinite(old), np.isfinite(got)):
        return False
    was, new, moved = (np.nan_to_num(array.astype(np.float64)) for array in (old, got, shaken))
    noise = float(np.abs(moved - was).max(initial=0.0))
    difference = float(np.abs(new - was).max(initial=0.0))
    return difference <= _ROUNDING * noise


def _equal(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _difference(
    new: Graph, old: Sequence[Array], got: Sequence[Array], maps: Mapping[str, Sequence[Any]]
) -> str:
    for tensor, was, found in zip(new.outputs, old, got, strict=True):
        want = _table(was, maps[tensor.name]) if tensor.name in maps else was
        if want.shape != found.shape:
            return f"output '{tensor.name}' has shape {list(found.shape)}, not {list(want.shape)}"
        if not close(new, tensor, want, found):
            return f"output '{tensor.name}' differs"
    return ""


def _run(session: Any, new: Graph, inputs: Feed) -> list[Array]:
    """The answers of the model as it was, in the order of `new`."""
    narrow = {t.name for t in (*new.inputs, *new.outputs) if t.dtype == "BF16"}
    return bfloat16.run(session, [t.name for t in new.outputs], inputs, narrow)
