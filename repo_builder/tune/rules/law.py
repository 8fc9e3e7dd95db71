"""How fast a candidate serves, as a queueing model of a few numbers that measuring finds out.

One execution of `rows` rows with `threads` threads, `busy` cores being used in all, takes

    s * (f + (1 - f) / threads) * (a + (1 - a) * rows) * (1 + g * (busy - 1))

seconds: Amdahl's law over threads (f: the share that runs on one), affine in the batch (a: the
share that does not grow with it), and g for what cores take from each other. Beside it a request
costs `o` seconds of a core in Triton, client and copies, less a share `w` in shared memory.

Instances are servers of an M/G/c queue. Its mean wait is Allen and Cunneen's approximation, Erlang
C's wait times (1 + cv^2) / 2 with cv the service time's coefficient of variation (Allen,
"Probability, Statistics, and Queueing Theory", 2nd ed. 1990, 5.2.7); the tail of the wait is taken
as exponential, as it is in heavy traffic (Kingman, "On queues in heavy traffic", J. R. Stat. Soc.
B 24, 1962). A batcher's mean batch is the fixed point of affine service times (Inoue, "Queueing
analysis of GPU-based inference servers with dynamic batching", Performance Evaluation 147, 2021).

All of it is an approximation that says what to try first; what is chosen was measured. Functions
take one vector of `Numbers.names` or an array of them, (..., numbers), and give (...,
candidates).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from repo_builder.spec.candidate import Candidate, Runtime

Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

_TOP = 0.97
"""Above this utilization a queue has no steady state to speak of: it grows while one measures."""

LEAST = 1e-3
"""The least share of its capacity that a candidate is asked about."""

_HALVINGS = 30
_SHARPNESS = 4
"""How sharply the slower of two limits takes over, as the exponent of a mean."""


@dataclass(frozen=True)
class Numbers:
    """What is not known of a model on a machine: means and standard deviations before measuring.

    In logarithms, shares as logits, so that any value is a possible one.
    """

    runtimes: Sequence[Runtime]

    @property
    def names(self) -> list[str]:
        """Of one vector of numbers, in order."""
        own = [f"{name}.{runtime}" for runtime in self.runtimes for name in ("s", "f", "a")]
        return [*own, "o", "w", "g", "cv"]

    @property
    def prior(self) -> tuple[Array, Array]:
        """The vector before anything was measured, and its covariance.

        The scale of time is all but unknown, but one runtime is seldom more than some times faster
        than another.
        """
        means, spread = [], []
        for _ in self.runtimes:
            means += [math.log(0.01), _logit(0.12), _logit(0.15)]
            spread += [0.7, 1.0, 1.0]
        means += [math.log(7e-4), _logit(0.3), math.log(0.05), math.log(0.15)]
        spread += [1.2, 1.0, 1.0, 0.7]
        covariance = np.diag(np.square(spread))
        scales = [3 * number for number in range(len(self.runtimes))]
        covariance[np.ix_(scales, scales)] += 3.0**2
        return np.array(means), covariance


class Law:
    """The model of some candidates on a machine with `cores`; a candidate may stand in it twice."""

    def __init__(self, candidates: Sequence[Candidate], cores: int, numbers: Numbers) -> None:
        self.numbers = numbers
        self.cores = cores
        self._runtime = np.array([numbers.runtimes.index(one.runtime) for one in candidates])
        self._k = np.array([float(one.instances) for one in candidates])
        self._t = np.array([float(one.threads) for one in candidates])
        self._rows = np.array([float(max(1, one.max_batch)) for one in candidates])
        self._rows[[not one.batches for one in candidates]] = 1.0
        self._delay = np.array([(one.delay_us or 0) / 1e6 for one in candidates])
        self._shared = np.array([float(one.shared_memory) for one in candidates])

    def execution(self, numbers: Array, rows: Array, busy: Array) -> Array:
        """Seconds of one execution of `rows` while `busy` instances execute."""
        s, f, a = self._own(numbers)
        g = np.exp(numbers[..., -2, None])
        serial, fixed = _share(f), _share(a)
        contention = 1 + g * np.maximum(0.0, self._t * busy - 1)
        split = serial + (1 - serial) / self._t
        made: Array = np.exp(s) * split * (fixed + (1 - fixed) * rows) * contention
        return made

    def busy(self, load: Array) -> Array:
        """How many instances execute at a time, at a `load` (0..1) of each; 1 at least."""
        made: Array = np.maximum(1.0, self._k * load)
        return made

    def capacity(self, numbers: Array, rows: Array | None = None) -> Array:
        """Requests a second at most: what instances can execute, and what cores can do in all."""
        rows = self._rows if rows is None else np.minimum(rows, self._rows)
        s, _, a = self._own(numbers)
        fixed, g = _share(a), np.exp(numbers[..., -2, None])
        by_instances = self._k * rows / self.execution(numbers, rows, self._k)
        inflated = 1 + g * np.maximum(0.0, self._t * self._k - 1)
        work = np.exp(s) * (fixed + (1 - fixed) * rows) / rows * inflated
        by_cores = self.cores / (work + self._overhead(numbers))
        made: Array = (by_instances**-_SHARPNESS + by_cores**-_SHARPNESS) ** (-1 / _SHARPNESS)
        return made

    def latency(
        self, numbers: Array, rate: Array, quantile: float, seconds: Array | float
    ) -> Array:
        """The latency in seconds at `quantile` (0..1) where requests come at random at `rate`.

        Above the capacity it is what `seconds` of measuring would see.
        """
        capacity = self.capacity(numbers)
        load = rate / capacity
        steady = np.minimum(load, _TOP)
        rate_steady = steady * capacity
        rows = np.ones_like(load)
        for _ in range(8):
            takes = self.execution(numbers, rows, self.busy(steady))
            wanted = np.maximum(rate_steady * takes / self._k, 1 + rate_steady * self._delay)
            rows = np.clip(wanted, 1.0, self._rows)
        takes = self.execution(numbers, rows, self.busy(steady))
        cv = np.exp(numbers[..., -1, None])
        waits = _erlang_c(self._k, steady)
        one = self._k * rows / capacity
        mean = waits * one / (self._k * (1 - steady)) * (1 + cv**2) / 2
        tail = 1 - quantile
        queued = mean / np.maximum(waits, 1e-12) * np.log(np.maximum(waits / tail, 1.0))
        joins = self._rows > 1
        held = joins * np.minimum(self._delay, (self._rows - 1) / np.maximum(rate_steady, 1e-9))
        residual = joins * quantile * takes * np.minimum(1.0, steady)
        spread = np.hypot(cv * takes * _normal(quantile), queued)
        grown = quantile * seconds * np.maximum(0.0, 1 - _TOP / np.maximum(load, 1e-9))
        made: Array = self._overhead(numbers) + takes + held + residual + spread + grown
        return made

    def most(self, numbers: Array, quantile: float, limit: Array, seconds: float) -> Array:
        """The highest rate at which `quantile` of the latencies stays within `limit` seconds.

        Where none does, a rate that is the lower the farther the limit is, so that all compare.
        """
        capacity = self.capacity(numbers)
        low, high = np.log(LEAST * capacity), np.log(capacity * 1.02)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            within = self.latency(numbers, np.exp(middle), quantile, seconds) <= limit
            low, high = np.where(within, middle, low), np.where(within, high, middle)
        least = self.latency(numbers, LEAST * capacity, quantile, seconds)
        made: Array = np.exp(low) * np.minimum(1.0, limit / least)
        return made

    def _own(self, numbers: Array) -> tuple[Array, Array, Array]:
        """s, f and a of each candidate's runtime."""
        first = 3 * self._runtime
        return numbers[..., first], numbers[..., first + 1], numbers[..., first + 2]

    def _overhead(self, numbers: Array) -> Array:
        saved = _share(numbers[..., -3, None]) * self._shared
        made: Array = np.exp(numbers[..., -4, None]) * (1 - saved)
        return made


def _erlang_c(servers: Array, load: Array) -> Array:
    """The probability that a request waits, of M/M/c with `load` (0..1) of each server."""
    offered = servers * load
    blocked = np.ones_like(offered)
    result = blocked
    for count in range(1, int(servers.max()) + 1):
        blocked = offered * blocked / (count + offered * blocked)
        result = np.where(servers == count, blocked / (1 - load * (1 - blocked)), result)
    return result


def _normal(quantile: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(quantile)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _share(logit: Array) -> Array:
    made: Array = 1 / (1 + np.exp(-logit))
    return made
