"""`profile`: how fast the built model is on this machine, and how much memory it takes."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repo_builder.steps import _data, _runtimes
from repo_builder.steps._failures import explained

MIN_RUNS = 10
"""Runs of each batch size; a median of fewer says little."""

LONGEST = 5.0
"""Seconds after which a batch size ends even with fewer runs, and over which none is begun."""


@dataclass(frozen=True)
class Params:
    """`threads` as in `verify`; `seconds` is the time for each batch size.

    Batch sizes above 1 are left out where the model has no batch dimension, or where two runs
    would take longer than `LONGEST`.
    """

    runtime: str
    threads: int = 0
    batch_sizes: tuple[int, ...] = (1, 8)
    seconds: float = 0.5


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one. `reference`: where `inputs.npz` has inputs to run it on."""

    model: Path
    reference: Path


@dataclass(frozen=True)
class Timing:
    """One batch size: median and 95th percentile of a run in ms, and rows per second."""

    batch: int
    runs: int
    p50_ms: float
    p95_ms: float
    rows_per_second: float


@dataclass(frozen=True)
class Facts:
    """`memory_mb` is what loading and running added to this process at its peak; 0 if unknown."""

    batches: tuple[Timing, ...]
    memory_mb: float


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Time every batch size after a warm-up; writes nothing. ModelError where a run fails."""
    memory = _PeakMemory()
    options = _runtimes.Options(params.threads)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    samples = _data.samples(inputs.reference / "inputs.npz", runner.inputs)
    timings: list[Timing] = []
    for batch in params.batch_sizes if _batched(runner, samples) else (1,):
        if timings and 2e-3 * timings[0].p50_ms * batch / timings[0].batch > LONGEST:
            continue
        feed = samples.feed(0) if batch == 1 else _repeat(samples, batch)
        with explained(f"a batch of {batch} fails", "check the model's batch dimension"):
            timings.append(_time(runner, feed, batch, params.seconds))
    return Facts(tuple(timings), memory.megabytes())


def _batched(runner: _runtimes.Runner, samples: _data.Samples) -> bool:
    tensors = (*runner.inputs, *runner.outputs)
    return all(block == 1 for block in samples.blocks.values()) and all(
        tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors
    )


def _repeat(samples: _data.Samples, batch: int) -> Mapping[str, _data.Array]:
    """`batch` rows of every input, from the start again where there are fewer."""
    rows = np.arange(batch)
    return {name: array[rows % len(array)] for name, array in samples.arrays.items()}


def _time(
    runner: _runtimes.Runner, feed: Mapping[str, _data.Array], batch: int, seconds: float
) -> Timing:
    """Time runs for `seconds`, after a warm-up of a tenth of it; see `MIN_RUNS` and `LONGEST`."""
    warm = time.perf_counter() + seconds / 10
    runner.run(feed)
    while time.perf_counter() < warm:
        runner.run(feed)
    times: list[float] = []
    begun = last = time.perf_counter()
    while last - begun < (seconds if len(times) >= MIN_RUNS else LONGEST):
        runner.run(feed)
        now = time.perf_counter()
        times.append(now - last)
        last = now
    p50, p95 = (float(1e3 * np.percentile(times, q)) for q in (50, 95))
    return Timing(batch, len(times), p50, p95, batch * len(times) / (last - begun))


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
