"""A machine that serves in virtual time: requests, instances, a batcher, noise, drift.

Its laws are not those that the rules fit: threads scale as in Gunther's universal law, cores take
from each other beyond a bandwidth, and every candidate has a peculiarity of its own.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from repo_builder.base.histogram import Histogram
from repo_builder.tune.rules.types import SLICES, Candidate, Measure, Observation, Service


@dataclass
class Machine:
    """A random model on a random machine; `equal`: no candidate differs from another."""

    seed: int
    cores: int = 2
    equal: bool = False
    noise: float = 0.02
    setup_s: float = 0.5
    refused: frozenset[str] = frozenset()
    clock: float = 0.0
    _own: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        draw = self.draw = random.Random(self.seed)  # noqa: S311 - reproducible, not secret
        self.base = math.exp(draw.uniform(math.log(0.004), math.log(0.02)))
        self.speed = {"onnxruntime": 1.0, "openvino": math.exp(draw.gauss(-0.1, 0.35))}
        self.sigma = draw.uniform(0.03, 0.35)
        self.kappa = draw.uniform(0.0, 0.03)
        self.bandwidth = draw.uniform(0.6, 1.1) * self.cores
        self.fixed = draw.uniform(0.02, 0.5)
        self.overhead = self.base * draw.uniform(0.02, 0.3)
        self.saved = draw.uniform(0.1, 0.7)
        self.cv = draw.uniform(0.03, 0.2)

    def takes(self, one: Candidate, rows: float, busy: float) -> float:
        """Seconds of an execution of `rows`, without noise, while `busy` instances execute."""
        if self.equal:
            return self.base * rows
        threads = one.threads
        scaled = threads / (1 + self.sigma * (threads - 1) + self.kappa * threads * (threads - 1))
        grows = self.fixed + (1 - self.fixed) * rows
        held_up = max(1.0, threads * busy / self.bandwidth)
        seconds = self.base * self.speed[one.runtime] / scaled * grows * held_up
        if one.label not in self._own:
            own = random.Random(f"{self.seed} {one.label}")  # noqa: S311
            self._own[one.label] = math.exp(own.gauss(0.0, 0.03))
        return seconds * self._own[one.label]

    def aside(self, one: Candidate) -> float:
        """Seconds that a request takes beside its execution."""
        if self.equal:
            return 0.0
        return self.overhead * (1 - self.saved * one.shared_memory)

    def measure(self, asked: Measure, *, exact: bool = False) -> Observation:
        """What measuring gives, and the time goes on; `exact`: without noise and drift."""
        one = asked.candidate
        if one.label in self.refused:
            return Observation(one, asked.rate, 0, 0, 0, (), problem="it does not load")
        drift = 0.0 if exact else self.noise * math.sin(self.clock / 17 + self.seed)
        again = 0.0 if exact else self.draw.gauss(0.0, self.noise)
        slow = math.exp(drift + again)
        seconds = asked.seconds
        done: list[list[float]] = [[] for _ in range(SLICES)]
        instances = 1 if self.equal else one.instances
        free = [(0.0, number) for number in range(instances)]
        most = one.max_batch if one.batches and not self.equal else 1
        delay = (one.delay_us or 0) / 1e6 if most > 1 else 0.0
        batches: dict[int, tuple[int, float]] = {}
        waited = 0.0
        due = self._arrivals(asked)
        queue: list[float] = []
        closed = asked.rate is None
        thinking = [0.0] * asked.callers
        position = 0
        while True:
            now, number = heapq.heappop(free)
            if closed:
                if now >= seconds:
                    break
                arrived = sorted(thinking)[:most] if len(thinking) > 1 else thinking[:]
                arrived = [at for at in arrived if at <= now] or [min(thinking)]
                start = max(now, arrived[-1])
                for at in arrived:
                    thinking.remove(at)
            else:
                if position >= len(due):
                    break
                start = max(now, due[position])
                if most > 1 and delay:
                    start = max(start, min(due[position] + delay, self._full(due, position, most)))
                last = position
                while last < len(due) and due[last] <= start and last - position < most:
                    last += 1
                arrived, position = due[position:last], last
            rows = len(arrived)
            busy = sum(1 for at, _ in free if at > start) + 1
            noisy = math.exp(self.draw.gauss(0.0, self.cv) - self.cv**2 / 2)
            aside = self.aside(one)
            work = self.takes(one, rows, busy) * noisy * slow
            crowded = max(1.0, (busy * one.threads + 0.5) / (self.cores + 0.5))
            ends = start + work + aside * rows * crowded * 0.5
            for at in arrived:
                waited += start - at
                if closed:
                    thinking.append(ends + aside)
                part = int((ends if closed else at) / seconds * SLICES)
                if part < SLICES:
                    done[part].append(ends + aside - at)
            runs, spent = batches.get(rows, (0, 0.0))
            batches[rows] = (runs + 1, spent + work)
            heapq.heappush(free, (ends, number))
        del queue
        slices = tuple(Histogram.of(part) for part in done)
        self.clock += seconds + self.setup_s
        runs = sum(count for count, _ in batches.values())
        rows = sum(rows * count for rows, (count, _) in batches.items())
        spent = sum(seconds for _, seconds in batches.values())
        told = Service(runs, rows, waited, spent, batches)
        sent = sum(part.count for part in slices)
        return Observation(one, asked.rate, seconds, sent, 0, slices, told, setup_s=self.setup_s)

    def _arrivals(self, asked: Measure) -> list[float]:
        if asked.rate is None:
            return []
        due, now = [], 0.0
        while (now := now + self.draw.expovariate(asked.rate)) < asked.seconds:
            due.append(now)
        return due

    @staticmethod
    def _full(due: list[float], position: int, most: int) -> float:
        last = position + most - 1
        return due[last] if last < len(due) else math.inf
