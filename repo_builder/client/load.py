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
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repo_builder.client.edge import AsyncEdgeClient
from repo_builder.client.errors import ClientError

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)

LATE_S = 0.01
"""A call of an open loop that begins later than this after it was due has begun late."""

Ask = Callable[[int], Awaitable[str]]
"""Makes the call with this number and says who answered it; raises ClientError where it fails."""


@dataclass
class Load:
    """What was measured. `latencies` in seconds, of the answered calls; `seconds` in all.

    `whens`, one for each latency: seconds after the start at which the call was due (open loop) or
    answered (closed loop). `late_starts` counts calls that began more than `LATE_S` late.
    """

    latencies: list[float] = field(default_factory=list)
    whens: list[float] = field(default_factory=list)
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


def asking(client: AsyncEdgeClient, model: str, inputs: Sequence[Any], timeout: float) -> Ask:
    """Calls of `client` that send `inputs` in turn."""

    async def ask(number: int) -> str:
        result = await client.infer(model, inputs[number % len(inputs)], timeout=timeout)
        return result.source

    return ask


async def closed_loop(ask: Ask, *, callers: int, seconds: float) -> Load:
    """`callers` that ask again as soon as they were answered, for `seconds`."""
    load = Load()
    begun = time.perf_counter()
    end = begun + seconds

    async def caller(number: int) -> None:
        while (start := time.perf_counter()) < end:
            if await _call(ask, number, load, start):
                load.whens.append(time.perf_counter() - begun)
            number += callers

    await asyncio.gather(*(caller(number) for number in range(callers)))
    load.seconds = time.perf_counter() - begun
    return load


async def open_loop(
    ask: Ask,
    *,
    rate: float,
    seconds: float,
    most: int = sys.maxsize,
    uniform: Callable[[], float] = random.random,
) -> Load:
    """Calls that begin at random, `rate` a second on average, for `seconds`.

    Where this process itself cannot keep up, calls begin late; their latency still runs from when
    they should have begun. While `most` calls wait for an answer no more are made: each that was
    due counts as an error, `Unsent`.
    """
    load = Load()
    tasks: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()

    async def call(number: int, due: float) -> None:
        if await _call(ask, number, load, due):
            load.whens.append(due - begun)

    due, number = begun, 0
    while True:
        # The time to the next event of a Poisson process is exponential.
        due += -math.log1p(-uniform()) / rate
        if due > begun + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        load.late_starts += time.perf_counter() - due > LATE_S
        if len(tasks) >= most:
            load.errors["Unsent"] += 1
            continue
        task = asyncio.ensure_future(call(number, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    while tasks:
        await asyncio.wait(tasks)
    load.seconds = time.perf_counter() - begun
    return load


async def _call(ask: Ask, number: int, load: Load, start: float) -> bool:
    """Make a call and note what came of it; whether it was answered."""
    try:
        source = await ask(number)
    except ClientError as error:
        load.errors[type(error).__name__] += 1
        return False
    load.latencies.append(time.perf_counter() - start)
    load.sources[source] += 1
    return True
