"""What happens in the fresh process of a visit: load a model, run it, time it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repo_builder.base import energy, machine
from repo_builder.base.errors import ModelError
from repo_builder.base.histogram import Histogram
from repo_builder.introspect import samples as made_up
from repo_builder.steps import _data, _feeds, _memory, _runtimes, _turns
from repo_builder.tune.measure.types import Memory, Sample, Subject, Visit

_WARM = 0.25
"""Of the time of a batch size: it runs so long uncounted, for clocks and caches to settle."""

_LEAST = 3
"""Runs of a visit at least: of a slow model, whose visits are many."""


def timed(subject: Subject, batches: Sequence[int], seconds: float) -> Visit:
    """Time every batch size for `seconds`; those that the model does not take are left out."""
    runner, feeds = _loaded(subject, batches)
    for feed in feeds.values():
        _turns.take([runner], feed, seconds * _WARM, least=1)
    watch = machine.Watch()
    found = []
    for batch, feed in feeds.items():
        (blocks,) = _turns.take([runner], feed, seconds, least=_LEAST)
        found.append(_sample(batch, blocks, _joules(runner, feed)))
    seen = watch.conditions()
    doubt = machine.doubt(seen.load, seen.throttled, 0.0)
    return Visit(tuple(found), seen.load, seen.throttled, doubt)


def remembered(subject: Subject, batch: int) -> Memory:
    """What one batch size takes, in a process that has loaded the runtime and nothing else."""
    _import(subject.runtime)
    peak = _memory.Peak()
    runner, feeds = _loaded(subject, (batch,))
    for feed in feeds.values():
        for _ in range(_LEAST):
            runner.run(feed)
    return Memory(_memory.resident(), peak.megabytes())


def sizes(subject: Subject, wanted: Sequence[int]) -> tuple[int, ...]:
    """Those of the `wanted` batch sizes that the model takes; 1 for one without a batch."""
    return tuple(_loaded(subject, wanted)[1])


def _loaded(
    subject: Subject, batches: Sequence[int]
) -> tuple[_runtimes.Runner, dict[int, Mapping[str, _data.Array]]]:
    options = _runtimes.Options(subject.threads, spin=True)
    runner = _runtimes.load(subject.folder, subject.runtime, options)
    rows = _data.samples(subject.inputs, runner.inputs) if subject.inputs else _made_up(runner)
    feeds = _feeds.of(runner, rows, batches)
    wanted = set(batches) & feeds.keys()
    return runner, {batch: feeds[batch] for batch in sorted(wanted or {1})}


def _made_up(runner: _runtimes.Runner) -> _data.Samples:
    """One row of seeded random values, for a build whose store is not here."""
    arrays, blocks = {}, {}
    for tensor in runner.inputs:
        batched = bool(tensor.shape) and not isinstance(tensor.shape[0], int)
        if any(not isinstance(size, int) for size in tensor.shape[int(batched) :]):
            sizes = ", ".join(str(size) or "?" for size in tensor.shape)
            raise ModelError(
                f"its input '{tensor.name}' [{sizes}] has sizes that cannot be made up, and the "
                "store has no inputs of it; name the store that it was built with (--store)"
            )
        shape = made_up.concrete(tensor, {}, 1 if batched else None)
        arrays[tensor.name] = made_up.draw(tensor, shape, "ones", 0)
        blocks[tensor.name] = shape[0] if shape else 1
    return _data.Samples(arrays, blocks, 1)


def _sample(batch: int, blocks: Sequence[Sequence[float]], joules: float | None) -> Sample:
    times = np.concatenate([np.asarray(block) for block in blocks])
    total = float(times.sum())
    return Sample(
        batch,
        len(times),
        total,
        batch * len(times) / total,
        float(1e3 * np.median(times)),
        Histogram.of(times.tolist()).as_json(),
        joules / batch if joules is not None else None,
    )


def _joules(runner: _runtimes.Runner, feed: Mapping[str, _data.Array]) -> float | None:
    """Of one run; None where this machine counts none, or they are in doubt."""
    found = _turns.energy(runner, None, feed, energy.meter())
    return found.joules if found is not None and not found.doubt else None


def _import(runtime: str) -> None:
    """Load a runtime's libraries, which are no part of what a model takes."""
    if runtime.startswith("openvino"):
        import openvino  # noqa: F401
    else:
        import onnxruntime  # noqa: F401
