"""Measures what the rules ask for: blocks of load on a candidate, and what happened meanwhile.

A block is repeated where Triton was restarted or a process of it died, and where others used the
machine; the last one says so in its `doubt`, if it was no better.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import machine
from repo_builder.base.errors import ServeError
from repo_builder.base.histogram import Histogram
from repo_builder.tune import process
from repo_builder.tune.rules.types import SLICES, Measure, Observation, Service
from repo_builder.tune.sender import Order, Sender
from repo_builder.tune.server import Counters, Servable, Server

AGAIN = 2
"""Times that a block is repeated: after a loss, and where others disturbed it."""

TIMEOUT_S = 10.0
"""Deadline of a request."""

_MOST_WAIT_S = 1.0
"""Of an open loop no more requests are under way than are due in this time, at least `_LEAST`."""
_LEAST = 64


@dataclass
class Bench:
    """A server, what sends to it, and who is told what happens."""

    server: Server
    sender: Sender
    tell: Callable[[str], None]
    disturbed: int = 0
    """Blocks in a row that stayed in doubt because of others, after all repeats."""

    def block(self, model: Servable, inputs: Path, asked: Measure) -> Observation:
        """Load the candidate, and measure it as asked; what cannot be served is a `problem`.

        ServeError where Triton is lost again and again.
        """
        lost = disturbed = 0
        while True:
            begun = time.monotonic()
            try:
                name = self.server.load(model, asked.candidate)
            except ServeError as refusal:
                gone = self.server.lost()
                if not gone:
                    return _unserved(asked, " ".join(str(refusal).split()))
                lost = self._restored(gone, lost)
                continue
            setup_s = time.monotonic() - begun
            found = self._once(name, inputs, asked, setup_s)
            if gone := self.server.lost():
                lost = self._restored(gone, lost)
                continue
            if found is None:
                raise ServeError(f"Triton does not answer for '{name}' and does not say why")
            doubtful = bool(found.doubt) and not found.doubt.startswith("the client")
            if doubtful and disturbed < (AGAIN if not self.disturbed else 0):
                disturbed += 1
                self.tell(f"{found.doubt}: measuring {asked.candidate.label} again")
                continue
            self.disturbed = self.disturbed + 1 if doubtful else 0
            return found

    def _restored(self, gone: str, lost: int) -> int:
        if lost >= AGAIN:
            raise ServeError(f"Triton was lost {lost + 1} times while it was measured: {gone}")
        self.tell(f"{gone}: measuring again")
        self.server.restore()
        return lost + 1

    def _once(self, name: str, inputs: Path, asked: Measure, setup_s: float) -> Observation | None:
        """One block; None where Triton did not tell what it counted."""
        server = self.server
        most = max(_LEAST, math.ceil((asked.rate or 0) * _MOST_WAIT_S))
        order = Order(
            url=server.url,
            model=name,
            inputs=str(inputs),
            rate=asked.rate,
            seconds=asked.seconds,
            callers=max(1, asked.callers),
            most=most,
            slices=SLICES,
            shared_memory=asked.candidate.shared_memory,
            timeout_s=TIMEOUT_S,
        )
        try:
            before = server.counters(name)
            cpu = server.cpu_seconds()
            watch = machine.Watch(helpers=self._helpers)
            sent = self.sender.send(order)
            conditions = watch.conditions()
            spent = server.cpu_seconds()
            after = server.counters(name)
        except ServeError:
            if server.lost():
                return None
            raise
        if sent.refused:
            return _unserved(asked, sent.refused)
        load = conditions.load if cpu is not None else None
        reasons = [sent.limit, machine.doubt(load, conditions.throttled, 0.0)]
        return Observation(
            candidate=asked.candidate,
            rate=asked.rate,
            seconds=asked.seconds,
            sent=sent.sent,
            failed=sent.failed,
            slices=tuple(map(Histogram.of_json, sent.slices)),
            service=_service(before, after),
            cpu_s=None if cpu is None or spent is None else spent - cpu,
            client_cpu_s=sent.cpu_s,
            memory_bytes=server.memory_bytes(name),
            setup_s=setup_s,
            late=sent.late,
            doubt=" and ".join(filter(None, reasons)),
        )

    def _helpers(self) -> float:
        return (self.server.cpu_seconds() or 0.0) + process.cpu_seconds(self.sender.pid)


def _service(before: Counters, after: Counters) -> Service | None:
    """What Triton counted between two looks; None where it began to count anew meanwhile."""
    if after.executions < before.executions:
        return None
    batches = {}
    for rows, (count, spent) in after.batches.items():
        earlier = before.batches.get(rows, (0, 0))
        if count > earlier[0]:
            batches[rows] = (count - earlier[0], (spent - earlier[1]) / 1e9)
    return Service(
        executions=after.executions - before.executions,
        rows=after.rows - before.rows,
        queue_s=(after.queue_ns - before.queue_ns) / 1e9,
        compute_s=math.fsum(spent for _, spent in batches.values()),
        batches=batches,
    )


def _unserved(asked: Measure, why: str) -> Observation:
    return Observation(asked.candidate, asked.rate, 0.0, 0, 0, (), problem=why)
