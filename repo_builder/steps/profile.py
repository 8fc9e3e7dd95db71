"""`profile`: how fast the built model is on this machine, and how much memory it takes.

Where the fp32 of the same model is given, both run in turns, so that whatever else the machine does
meanwhile hits both, and their ratio is told from pairs of neighbours in time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repo_builder.base import energy, machine
from repo_builder.steps import _data, _feeds, _memory, _runtimes, _turns


@dataclass(frozen=True)
class Params:
    """`threads` as in `verify`; `seconds` is the time for each batch size.

    Batch sizes above 1 are left out where the model has no batch dimension, or where two runs
    would take longer than `_turns.LONGEST`.
    """

    runtime: str
    threads: int = 0
    batch_sizes: tuple[int, ...] = (1, 8)
    seconds: float = 0.25


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one. `reference`: where `inputs.npz` has inputs to run it on.

    `fp32`: the same model in fp32, built for the same runtime, to be timed beside it. `parent`: so
    with the model that it was pruned from, in the same precision.
    """

    model: Path
    reference: Path
    fp32: Path | None = None
    parent: Path | None = None


@dataclass(frozen=True)
class Timing:
    """One batch size: median and 95th percentile of a run in ms, and rows per second.

    `spread` is that of the medians of blocks of runs: see `machine.spread`.
    """

    batch: int
    runs: int
    p50_ms: float
    p95_ms: float
    rows_per_second: float
    spread: float


@dataclass(frozen=True)
class Facts:
    """`memory_mb` is what loading and running added to this process at its peak; 0 if unknown.

    `conditions` are those of batch 1; `at` is when, in UTC. `energy` is None where this machine has
    no counters that may be read.
    """

    batches: tuple[Timing, ...]
    memory_mb: float
    conditions: machine.Conditions
    at: str
    fp32: _turns.Beside | None = None
    parent: _turns.Beside | None = None
    energy: _turns.Energy | None = None


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Time every batch size after a warm-up; writes nothing. ModelError where a run fails."""
    memory = _memory.Peak()
    options = _runtimes.Options(params.threads, spin=True)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    samples = _data.samples(inputs.reference / "inputs.npz", runner.inputs)
    feeds = _feeds.of(runner, samples, params.batch_sizes)
    megabytes = memory.megabytes()
    others = {
        name: _runtimes.load(folder, params.runtime, options)
        for name, folder in (("fp32", inputs.fp32), ("parent", inputs.parent))
        if folder is not None
    }
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    watch = machine.Watch()
    one = feeds.pop(1)
    blocks = _turns.take([runner, *others.values()], one, params.seconds)
    conditions = watch.conditions()
    spent = _turns.energy(runner, others.get("fp32"), one, energy.meter())
    timings = [_timing(1, blocks[0])]
    for batch, feed in feeds.items():
        (alone,) = _turns.take([runner], feed, params.seconds / 2)
        timings.append(_timing(batch, alone))
    beside = {
        name: _turns.beside(blocks[0], theirs)
        for name, theirs in zip(others, blocks[1:], strict=True)
    }
    return Facts(tuple(timings), megabytes, conditions, at, **beside, energy=spent)


def _timing(batch: int, blocks: Sequence[Sequence[float]]) -> Timing:
    times = np.concatenate([np.asarray(block) for block in blocks])
    p50, p95 = np.percentile(times, (50, 95))
    return Timing(
        batch,
        len(times),
        float(1e3 * p50),
        float(1e3 * p95),
        float(batch * len(times) / times.sum()),
        machine.spread([float(np.median(block)) for block in blocks]),
    )
