"""Load on a server, and what its latencies really are.

Closed loop: so many callers, each waits for its answer before it asks again. What it measures is
the service time; a server that stalls is simply asked less, so its stall counts once
("coordinated omission").

Open loop: calls begin at random times (Poisson) at a given rate, whatever the server does, and a
latency runs from the time that a call *should* have begun. A stall counts for every call that it
held up. This is what users of an independent source of requests meet.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repo_builder.client.edge import AsyncEdgeClient
from repo_builder.client.errors import ClientError

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


@dataclass
class Load:
    """What was measured. `latencies` in seconds, of the answered calls; `seconds` in all."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    sources: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    late_starts: int = 0

    def percentile(self, q: float) -> float:
        """The latency, in seconds, that `q` percent of the calls do not exceed; nan of none."""
        if not self.latencies:
            return float("nan")
        return float(np.percentile(self.latencies, q, method="higher"))

    @property
    def rate(self) -> float:
        """Answered calls a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


async def closed_loop(
    client: AsyncEdgeClient,
    model: str,
    inputs: Sequence[Any],
    *,
    callers: int,
    seconds: float,
    timeout: float,
) -> Load:
    """`callers` that ask again as soon as they were answered, for `seconds`."""
    load = Load()
    begun = time.perf_counter()
    end = begun + seconds

    async def caller(number: int) -> None:
        while (start := time.perf_counter()) < end:
            await _call(client, model, inputs[number % len(inputs)], timeout, load, start)
            number += callers

    await asyncio.gather(*(caller(number) for number in range(callers)))
    load.seconds = time.perf_counter() - begun
    return load


async def open_loop(
    client: AsyncEdgeClient,
    model: str,
    inputs: Sequence[Any],
    *,
    rate: float,
    seconds: float,
    timeout: float,
    uniform: Callable[[], float] = random.random,
) -> Load:
    """Calls that begin at random, `rate` a second on average, for `seconds`.

    Where this process itself cannot keep up, calls begin late; `late_starts` counts those more than
    10 ms late. Their latency still runs from when they should have begun.
    """
    load = Load()
    tasks: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()
    due, number = begun, 0
    while True:
        # The time to the next event of a Poisson process is exponential.
        due += -math.log1p(-uniform()) / rate
        if due > begun + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        load.late_starts += time.perf_counter() - due > 0.01
        call = _call(client, model, inputs[number % len(inputs)], timeout, load, due)
        task = asyncio.ensure_future(call)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    while tasks:
        await asyncio.wait(tasks)
    load.seconds = time.perf_counter() - begun
    return load


async def _call(
    client: AsyncEdgeClient, model: str, inputs: Any, timeout: float, load: Load, start: float
) -> None:
    try:
        result = await client.infer(model, inputs, timeout=timeout)
    except ClientError as error:
        load.errors[type(error).__name__] += 1
        return
    load.latencies.append(time.perf_counter() - start)
    load.sources[result.source] += 1
