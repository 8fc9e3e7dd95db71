"""Lists the candidates for a model on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repo_builder.spec.candidate import Candidate, Runtime

MOST_INSTANCES = 8
"""More would buy little and cost memory: each instance may hold a copy of the weights."""

DELAYS_US = (0, 500, 2000)


@dataclass(frozen=True)
class Place:
    """What candidates may use: `cores`, the `runtimes` that the build has for the model, batches of
    up to `largest_batch` rows (0 or 1: the batch is not proven dynamic), and shared memory where
    clients are on the same machine.
    """

    cores: int
    runtimes: Sequence[Runtime]
    largest_batch: int = 0
    shared_memory: bool = False


def candidates(place: Place) -> tuple[Candidate, ...]:
    """All candidates, simpler ones first; instances times threads never above the cores.

    Triton's openvino backend takes no batches joined by the server: see docs/config.md. Only ONNX
    Runtime is tried with them.
    """
    found = [
        Candidate(runtime, instances, threads, batch, delay, shared)
        for runtime in place.runtimes
        for instances, threads in _shares(place.cores)
        for batch, delay in _batchers(runtime, place.largest_batch)
        for shared in ((False, True) if place.shared_memory else (False,))
    ]
    return tuple(sorted(found, key=lambda one: one.order))


def _shares(cores: int) -> list[tuple[int, int]]:
    """Instances and threads: powers of two, and what divides the cores as far as it goes."""
    sizes = {1 << bit for bit in range(cores.bit_length())} | {cores}
    sizes |= {cores // other for other in sizes}
    return [
        (instances, threads)
        for instances in sorted(sizes)
        for threads in sorted(sizes)
        if instances * threads <= cores and instances <= MOST_INSTANCES
    ]


def _batchers(runtime: Runtime, largest: int) -> list[tuple[int, int | None]]:
    """Pairs of the largest batch and the delay; the first is none.

    Smaller batches are not tried: Triton would refuse requests of more rows than that.
    """
    if runtime == "openvino" or largest < 2:
        return [(0, None)]
    return [(0, None), *((largest, delay) for delay in DELAYS_US)]
