"""The process that makes load: `python -m repo_builder.tune.send`, an order a line.

It is a process of its own so that what measures does not disturb it, and so that its CPU time is
known. An order is a line of JSON, `Order` by its fields; so is each answer, `Sent`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repo_builder.base.histogram import Histogram
from repo_builder.client import AsyncEdgeClient, Limits, SharedMemory
from repo_builder.client import load as loads
from repo_builder.client.errors import ClientError
from repo_builder.tune import inputs
from repo_builder.tune.sender import Order, Sent

WARM = 3
"""Requests before the clock runs: the first one opens the connection and reads the config."""


async def sent(order: Order) -> Sent:
    """Make the load that is ordered, and say what came of it."""
    requests = inputs.read(Path(order.inputs))
    # The load is to reach the server: the client's own queue must not shed or delay it.
    limits = Limits(concurrency=1_000_000, queue=0)
    shared = SharedMemory(enabled=order.shared_memory)
    async with AsyncEdgeClient(order.url, limits=limits, shared_memory=shared) as client:
        ask = loads.asking(client, order.model, requests, order.timeout_s)
        try:
            for number in range(WARM):
                await ask(number)
        except ClientError as error:
            return Sent(refused=str(error))
        process, busy = time.process_time(), _Busy(order.seconds)
        if order.rate is None:
            load = await loads.closed_loop(ask, callers=order.callers, seconds=order.seconds)
        else:
            load = await loads.open_loop(
                ask, rate=order.rate, seconds=order.seconds, most=order.most
            )
        failed = sum(load.errors.values())
        return Sent(
            sent=len(load.latencies) + failed,
            failed=failed,
            slices=[part.as_json() for part in sliced(load, order.seconds, order.slices)],
            late=load.late_starts,
            seconds=load.seconds,
            cpu_s=time.process_time() - process,
            busy=busy.share,
            errors=dict(load.errors),
        )


class _Busy:
    """What share of the time this thread was busy; not of the end, when it waits for answers."""

    def __init__(self, seconds: float) -> None:
        self.share = 0.0
        self._clock, self._thread = time.perf_counter(), time.thread_time()
        asyncio.get_running_loop().call_later(0.9 * seconds, self._note)

    def _note(self) -> None:
        spent = time.perf_counter() - self._clock
        self.share = (time.thread_time() - self._thread) / spent


def sliced(load: loads.Load, seconds: float, parts: int) -> Sequence[Histogram]:
    """The latencies in equal parts of `seconds`; without what a closed loop answered after them."""
    found = [Histogram() for _ in range(parts)]
    for when, latency in zip(load.whens, load.latencies, strict=True):
        part = int(when / seconds * parts)
        if part < parts:
            found[part].add(latency)
    return found


def main() -> None:
    """Answer orders until there are no more."""
    for line in sys.stdin:
        fields: dict[str, Any] = json.loads(line)
        answer = asyncio.run(sent(Order(**fields)))
        print(json.dumps(asdict(answer)), flush=True)


if __name__ == "__main__":
    main()
