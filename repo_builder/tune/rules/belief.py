"""What is believed of every candidate after some were measured: a normal distribution.

Unknown are the numbers of the queueing model (`law`) and, for each candidate, by which factor it is
faster or slower than that model says; candidates that share a shape, a batcher or shared memory
share some of it. Each observation is turned into the factor that it would take, at the numbers
believed in so far, and the model's slope there; so all are linear, and the belief follows by least
squares. That is repeated around the new numbers (an iterated extended Kalman filter).

What is good is the logarithm of a candidate's figure: of its requests a second, or of one by its
latency at the rate asked for. So a difference of 0.05 is 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from repo_builder.base import statistics
from repo_builder.spec.candidate import Candidate, Runtime
from repo_builder.tune.rules.law import LEAST, Array, Law, Numbers
from repo_builder.tune.rules.types import Objective, Observation

_SHAPE, _BATCHER, _SHARED, _OWN = 0.06, 0.04, 0.03, 0.04
"""Standard deviations of the factor that candidates of the same shape and runtime share, of the
same batcher, of shared memory or none, and of what is a candidate's own."""

_AGAIN = 0.015
"""How far the same candidate differs when it is loaded and measured again."""

_DRIFT, _LASTING = 0.03, 2.0
"""How far a machine's speed drifts, and over how many observations."""

_DOUBTFUL = 0.15
"""What an observation that is not to be trusted may be off."""

_ELSEWHERE = 0.1
"""What the model may be off from a saturated server to one that is asked at a rate."""

_TIMES = 0.08
"""How well the seconds of an execution, as Triton counts them, follow the model."""

_LEAST_SPREAD = 0.01
_FARTHEST = 3.0
_HALVINGS = 22
_ROUNDS = 3
_STEP = 1e-3


@dataclass(frozen=True)
class Belief:
    """`mean` and `covariance` of what is good, of all candidates, in logarithms.

    `numbers` of the law and `factors` of the candidates are the likeliest ones.
    """

    mean: Array
    covariance: Array
    numbers: Array
    factors: Array

    def ahead(self, of: int) -> tuple[Array, Array]:
        """By how much each candidate is better than the one numbered `of`: means, deviations."""
        own = np.diag(self.covariance)
        spread = own + own[of] - 2 * self.covariance[of]
        return self.mean - self.mean[of], np.sqrt(np.maximum(spread, 1e-12))


class Reader:
    """Turns observations of `candidates` on a machine of `cores` into beliefs."""

    def __init__(self, candidates: Sequence[Candidate], cores: int, objective: Objective) -> None:
        self.candidates = candidates
        self.cores = cores
        self.objective = objective
        runtimes: dict[Runtime, None] = dict.fromkeys(one.runtime for one in candidates)
        self.numbers = Numbers(list(runtimes))
        self.law = Law(candidates, cores, self.numbers)
        self._prior, self._covariance = self.numbers.prior
        self._factors = _alike(candidates)

    def belief(self, seen: Sequence[Observation], seconds: float) -> Belief:
        """What follows from the observations; `seconds` is how long one measures at a rate."""
        numbers, factors = self._prior, np.zeros(len(self.candidates))
        size = len(numbers)
        before = np.zeros((size + len(factors), size + len(factors)))
        before[:size, :size], before[size:, size:] = self._covariance, self._factors
        after = before
        if seen:
            told = _Told(self, seen)
            for _ in range(_ROUNDS):
                value, slopes = told.linear(numbers)
                state = np.concatenate([numbers - self._prior, np.zeros(len(factors))])
                wanted = value + slopes @ state
                gain = before @ slopes.T
                found = np.linalg.solve(slopes @ gain + told.noise, wanted)
                change = gain @ found
                numbers = numbers + np.clip(self._prior + change[:size] - numbers, -4.0, 4.0)
                factors = change[size:]
            after = before - gain @ np.linalg.solve(slopes @ gain + told.noise, gain.T)
        good = _slopes(lambda n: self.good(n, factors, seconds), numbers)
        by_factor = (self.good(numbers, factors + _STEP, seconds) - good[0]) / _STEP
        out = np.hstack([good[1], np.diag(by_factor)])
        return Belief(good[0], out @ after @ out.T, numbers, factors)

    def good(self, numbers: Array, factors: Array, seconds: float) -> Array:
        """What is good of each candidate where these are the numbers and factors."""
        slo, rate = self.objective.slo, self.objective.rate
        if slo is None:
            made: Array = np.log(self.law.capacity(numbers)) + factors
        elif rate is not None:
            asked = rate * np.exp(-factors)
            made = factors - np.log(self.law.latency(numbers, asked, slo.quantile, seconds))
        else:
            limit = slo.limit_ms / 1e3 * np.exp(factors)
            made = factors + np.log(self.law.most(numbers, slo.quantile, limit, seconds))
        return made

    def one(self, seen: Observation, belief: Belief, seconds: float) -> float:
        """What is good of a candidate by one observation alone, at the numbers believed in."""
        told = _Told(self, [seen])
        factors = np.full(len(self.candidates), told.factor(belief.numbers)[0])
        return float(self.good(belief.numbers, factors, seconds)[told.index[0]])

    def hopeless(self, belief: Belief) -> list[bool]:
        """Of which candidates no rate worth the name keeps the SLO."""
        capacity = np.log(self.law.capacity(belief.numbers)) + belief.factors
        return [bool(low) for low in belief.mean < capacity + math.log(2 * LEAST)]


class _Told:
    """What observations say, as linear equations of the numbers and factors."""

    def __init__(self, reader: Reader, seen: Sequence[Observation]) -> None:
        self.seen = seen
        self.index = np.array([reader.candidates.index(one.candidate) for one in seen])
        self.law = Law([one.candidate for one in seen], reader.cores, reader.numbers)
        slo = reader.objective.slo
        self.quantile = slo.quantile if slo else 0.5
        self.count = len(reader.candidates)
        self.open = np.array([one.rate is not None for one in seen])
        self.rate = np.array([one.rate or 1.0 for one in seen])
        self.seconds = np.array([max(one.seconds, 1e-3) for one in seen])
        measured = [_measured(one, self.quantile) for one in seen]
        self.figure = np.array([figure for figure, _ in measured])
        self.spread = np.array([spread for _, spread in measured])
        self.timed = [n for n, one in enumerate(seen) if one.service and one.service.executions]
        self.rows = np.ones(len(seen))
        self.takes = np.ones(len(seen))
        for n in self.timed:
            if service := seen[n].service:
                self.rows[n] = service.mean_batch
                self.takes[n] = max(service.compute_s / service.executions, 1e-6)
        self.noise = self._noise(elsewhere=slo is not None)

    def linear(self, numbers: Array) -> tuple[Array, Array]:
        """Values and slopes, by numbers and factors, of what was seen: one row an equation."""
        factor, by_number = _slopes(self.factor, numbers)
        rows = np.zeros((len(self.seen), self.count))
        rows[np.arange(len(self.seen)), self.index] = 1.0
        takes, by_takes = _slopes(self._compute, numbers)
        value = np.concatenate([factor, (np.log(self.takes) - takes)[self.timed]])
        slopes = np.vstack(
            [np.hstack([-by_number, rows]), np.hstack([by_takes, -rows])[self.timed]],
        )
        return value, slopes

    def factor(self, numbers: Array) -> Array:
        """By which factor, in logarithms, each is faster than these numbers say."""
        saturated: Array = np.log(self.figure / self.law.capacity(numbers))
        if not self.open.any():
            return saturated
        low = np.full(saturated.shape, -_FARTHEST)
        high = np.full(saturated.shape, _FARTHEST)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            rate = self.rate * np.exp(-middle)
            expected = self.law.latency(numbers, rate, self.quantile, self.seconds)
            slower = np.log(expected) - middle > np.log(self.figure)
            low, high = np.where(slower, middle, low), np.where(slower, high, middle)
        return np.where(self.open, (low + high) / 2, saturated)

    def _compute(self, numbers: Array) -> Array:
        """The logarithm of an execution's seconds."""
        load = np.where(self.open, self.rate / self.law.capacity(numbers), 1.0)
        busy = np.minimum(1.0, load)
        made: Array = np.log(self.law.execution(numbers, self.rows, self.law.busy(busy)))
        return made

    def _noise(self, *, elsewhere: bool) -> Array:
        """The covariance of what disturbs each equation."""
        count = len(self.seen)
        place = np.arange(count)
        drift = _DRIFT**2 * np.exp(-np.abs(place[:, None] - place[None, :]) / _LASTING)
        own = self.spread**2 + _AGAIN**2
        own = own + np.where([bool(one.doubt) for one in self.seen], _DOUBTFUL**2, 0.0)
        own = own + np.where(~self.open & elsewhere, _ELSEWHERE**2, 0.0)
        noise = np.zeros((count + len(self.timed), count + len(self.timed)))
        noise[:count, :count] = drift + np.diag(own)
        noise[count:, count:] = _TIMES**2 * np.eye(len(self.timed))
        return noise


def _measured(seen: Observation, quantile: float) -> tuple[float, float]:
    """Requests a second of a closed loop, the latency of an open one; its relative spread."""
    parts = seen.slices
    count = len(parts)
    if seen.rate is None:
        rates = [part.count * count / seen.seconds for part in parts]
        mean = max(math.fsum(rates) / count, 1e-3)
        spread = statistics.jackknife_error([(mean * count - one) / (count - 1) for one in rates])
        return mean, max(spread / mean, _LEAST_SPREAD)
    whole = seen.latencies
    if not whole.count:
        return seen.seconds, 1.0
    figure = whole.quantile(quantile)
    left = [whole.less(part) for part in parts]
    logs = [math.log(rest.quantile(quantile)) for rest in left if rest.count]
    spread = statistics.jackknife_error(logs) if len(logs) > 1 else 1.0
    return figure, max(spread, _LEAST_SPREAD)


def _slopes(function: Callable[[Array], Array], at: Array) -> tuple[Array, Array]:
    """The values of a function of numbers, and their slopes (values, numbers), by differences."""
    points = np.vstack([at, at + _STEP * np.eye(len(at))])
    values = function(points)
    return values[0], ((values[1:] - values[0]) / _STEP).T


def _alike(candidates: Sequence[Candidate]) -> Array:
    """The covariance of the factors."""
    alike = np.zeros((len(candidates), len(candidates)))
    for kind, spread in (
        ([(one.runtime, one.instances, one.threads) for one in candidates], _SHAPE),
        ([(one.runtime, one.max_batch, one.delay_us) for one in candidates], _BATCHER),
        ([one.shared_memory for one in candidates], _SHARED),
        ([one.label for one in candidates], _OWN),
    ):
        same = [[a == b for b in kind] for a in kind]
        alike += spread**2 * np.array(same)
    return alike
