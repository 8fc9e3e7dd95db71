"""`profile`: how fast the built model is on this machine, and how much memory it takes.

Where the fp32 of the same model is given, both run in turns, so that whatever else the machine does
meanwhile hits both, and their ratio is told from pairs of neighbours in time.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repo_builder.base import energy, machine
from repo_builder.steps import _data, _runtimes, _turns
from repo_builder.steps._failures import explained


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
    memory = _PeakMemory()
    options = _runtimes.Options(params.threads, spin=True)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    samples = _data.samples(inputs.reference / "inputs.npz", runner.inputs)
    feeds = _feeds(runner, samples, params.batch_sizes)
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


def _feeds(
    runner: _runtimes.Runner, samples: _data.Samples, sizes: Sequence[int]
) -> dict[int, Mapping[str, _data.Array]]:
    """The inputs of each batch size that the model takes, each run once; of 1 always."""
    feeds: dict[int, Mapping[str, _data.Array]] = {}
    one_row = 0.0
    for batch in sorted({1, *sizes}) if _batched(runner, samples) else (1,):
        if 2 * one_row * batch > _turns.LONGEST:
            continue
        feed = samples.feed(0) if batch == 1 else _repeat(samples, batch)
        with explained(f"a batch of {batch} fails", "check the model's batch dimension"):
            (first,) = _turns.block(runner, feed, 1)
        feeds[batch] = feed
        if batch == 1:  # the first run may take longer than others
            again = (
                _turns.block(runner, feed, 1)
                if _turns.LONGEST / 100 < first < _turns.LONGEST
                else []
            )
            one_row = min([first, *again])
    return feeds


def _batched(runner: _runtimes.Runner, samples: _data.Samples) -> bool:
    tensors = (*runner.inputs, *runner.outputs)
    return all(block == 1 for block in samples.blocks.values()) and all(
        tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors
    )


def _repeat(samples: _data.Samples, batch: int) -> Mapping[str, _data.Array]:
    """`batch` rows of every input, from the start again where there are fewer."""
    rows = np.arange(batch)
    return {name: array[rows % len(array)] for name, array in samples.arrays.items()}


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


class _PeakMemory:
    """Growth of this process's resident memory at its peak, from Linux's /proc."""

    def __init__(self) -> None:
        self._give_back_freed()
        self._before = self._read("VmRSS")
        if self._before:
            # 5 resets the peak (VmHWM) to what is resident now; see proc(5), clear_refs.
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def megabytes(self) -> float:
        """The growth in MB (1e6 bytes); 0 where there is no /proc."""
        return max(self._read("VmHWM") - self._before, 0) * 1024 / 1e6

    def _give_back_freed(self) -> None:
        """Return what earlier steps freed to the system, so that it is not used unseen here."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)

    def _read(self, field: str) -> int:
        """A field of /proc/self/status, in KiB."""
        status = Path("/proc/self/status")
        if not status.exists():
            return 0
        lines = status.read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
