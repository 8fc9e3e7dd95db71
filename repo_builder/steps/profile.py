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

from repo_builder.base import machine
from repo_builder.steps import _data, _runtimes
from repo_builder.steps._failures import explained

MIN_RUNS = 10
"""Runs of each model and batch size; a median of fewer says little."""

LONGEST = 5.0
"""Seconds after which a batch size ends even with fewer runs, and over which none is begun."""

BLOCK_S = 0.01
"""Seconds of runs of one model before the other has its turn: many, and none alone with a cache."""


@dataclass(frozen=True)
class Params:
    """`threads` as in `verify`; `seconds` is the time for each batch size.

    Batch sizes above 1 are left out where the model has no batch dimension, or where two runs
    would take longer than `LONGEST`.
    """

    runtime: str
    threads: int = 0
    batch_sizes: tuple[int, ...] = (1, 8)
    seconds: float = 0.25


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one. `reference`: where `inputs.npz` has inputs to run it on.

    `fp32`: the same model in fp32, built for the same runtime, to be timed beside it.
    """

    model: Path
    reference: Path
    fp32: Path | None = None


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
class Beside:
    """The fp32 in batch 1, and how many times its time is ours: a median, and its quartiles."""

    p50_ms: float
    faster: float
    faster_low: float
    faster_high: float


@dataclass(frozen=True)
class Facts:
    """`memory_mb` is what loading and running added to this process at its peak; 0 if unknown.

    `conditions` are those of batch 1; `at` is when, in UTC.
    """

    batches: tuple[Timing, ...]
    memory_mb: float
    conditions: machine.Conditions
    at: str
    fp32: Beside | None = None


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Time every batch size after a warm-up; writes nothing. ModelError where a run fails."""
    memory = _PeakMemory()
    options = _runtimes.Options(params.threads, spin=True)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    samples = _data.samples(inputs.reference / "inputs.npz", runner.inputs)
    feeds = _feeds(runner, samples, params.batch_sizes)
    megabytes = memory.megabytes()
    runners = [runner]
    if inputs.fp32 is not None:
        runners.append(_runtimes.load(inputs.fp32, params.runtime, options))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    watch = machine.Watch()
    blocks = _take_turns(runners, feeds.pop(1), params.seconds)
    conditions = watch.conditions()
    timings = [_timing(1, blocks[0])]
    for batch, feed in feeds.items():
        (alone,) = _take_turns([runner], feed, params.seconds / 2)
        timings.append(_timing(batch, alone))
    beside = _beside(*blocks) if len(blocks) > 1 else None
    return Facts(tuple(timings), megabytes, conditions, at, beside)


def _feeds(
    runner: _runtimes.Runner, samples: _data.Samples, sizes: Sequence[int]
) -> dict[int, Mapping[str, _data.Array]]:
    """The inputs of each batch size that the model takes, each run once; of 1 always."""
    feeds: dict[int, Mapping[str, _data.Array]] = {}
    one_row = 0.0
    for batch in sorted({1, *sizes}) if _batched(runner, samples) else (1,):
        if 2 * one_row * batch > LONGEST:
            continue
        feed = samples.feed(0) if batch == 1 else _repeat(samples, batch)
        with explained(f"a batch of {batch} fails", "check the model's batch dimension"):
            (first,) = _block(runner, feed, 1)
        feeds[batch] = feed
        if batch == 1:  # the first run may take longer than others
            again = _block(runner, feed, 1) if LONGEST / 100 < first < LONGEST else []
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


def _take_turns(
    runners: Sequence[_runtimes.Runner], feed: Mapping[str, _data.Array], seconds: float
) -> list[list[list[float]]]:
    """Blocks of times of each runner, in seconds: first to last, then last to first (ABBA ...).

    It takes `seconds` for each runner: longer for `MIN_RUNS`, but not beyond `LONGEST`.
    """
    lengths = [_length(runner, feed) for runner in runners]
    blocks: list[list[list[float]]] = [[] for _ in runners]
    order = list(range(len(runners)))
    begun = time.perf_counter()
    while True:
        for number in order:
            blocks[number].append(_block(runners[number], feed, lengths[number]))
        order.reverse()
        spent = (time.perf_counter() - begun) / len(runners)
        few = min(len(times) * n for times, n in zip(blocks, lengths, strict=True)) < MIN_RUNS
        if spent >= (LONGEST if few else seconds):
            return blocks


def _length(runner: _runtimes.Runner, feed: Mapping[str, _data.Array]) -> int:
    """How many runs take `BLOCK_S`, after a warm-up."""
    (first,) = _block(runner, feed, 1)
    if first > 10 * BLOCK_S:
        return 1
    return max(1, round(BLOCK_S / min(_block(runner, feed, 3))))


def _block(runner: _runtimes.Runner, feed: Mapping[str, _data.Array], runs: int) -> list[float]:
    """The seconds of each of `runs` runs."""
    times = []
    last = time.perf_counter()
    for _ in range(runs):
        runner.run(feed)
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return times


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


def _beside(ours: Sequence[Sequence[float]], fp32: Sequence[Sequence[float]]) -> Beside:
    """The ratio of pairs of blocks, one after the other: a drift of the machine cancels out."""
    ratios = [np.median(b) / np.median(a) for a, b in zip(ours, fp32, strict=True)]
    low, middle, high = map(float, np.percentile(ratios, (25, 50, 75)))
    median = float(1e3 * np.median(np.concatenate([np.asarray(block) for block in fp32])))
    return Beside(median, middle, low, high)


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
