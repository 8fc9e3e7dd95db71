"""Upstreams, edge and cloud: their endpoints, how these have been doing, and which to ask next.

No I/O; `now` is in seconds of a monotonic clock.
"""

from __future__ import annotations

import threading
from typing import Literal

from repo_builder.client.options import Breaker, Servers
from repo_builder.client.rules.breaker import CircuitBreaker
from repo_builder.client.rules.failure import Failure

Side = Literal["edge", "cloud"]

_WINDOW = 128
_MIN_SAMPLES = 32


class Latencies:
    """The last calls' latencies, in seconds, for their p95."""

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._next = 0
        self._p95: float | None = None

    def add(self, seconds: float) -> None:
        """One more; called under the upstream's lock."""
        if len(self._ring) < _WINDOW:
            self._ring.append(seconds)
        else:
            self._ring[self._next] = seconds
        self._next = (self._next + 1) % _WINDOW
        if self._next % 16 == 0:
            self._p95 = None

    def p95(self) -> float | None:
        """The 95th percentile, or None while too few calls were seen."""
        if self._p95 is None and len(self._ring) >= _MIN_SAMPLES:
            self._p95 = sorted(self._ring)[int(len(self._ring) * 0.95)]
        return self._p95


class Endpoint:
    """One server: its address, its breaker, how busy and how quick it has been."""

    def __init__(self, side: Side, address: str, servers: Servers, breaker: Breaker) -> None:
        self.side: Side = side
        self.address = address
        self.servers = servers
        self.breaker = CircuitBreaker(breaker)
        self.inflight = 0
        self.latency_ewma = 0.0
        self.outcomes: dict[str, int] = {"ok": 0}

    def cost(self) -> float:
        """What a further call would wait here, roughly: queue length times mean latency."""
        return (self.inflight + 1) * (self.latency_ewma or 1e-4)

    def __repr__(self) -> str:
        return f"Endpoint({self.side} {self.address})"


class Upstream:
    """The endpoints of one side, interchangeable; chooses the one that should answer soonest."""

    def __init__(self, name: Side, servers: Servers, breaker: Breaker) -> None:
        self.name: Side = name
        self.servers = servers
        self.endpoints = tuple(
            Endpoint(name, address, servers, breaker) for address in servers.addresses
        )
        self._lock = threading.Lock()
        self._latencies: dict[str, Latencies] = {}
        self._several = len(self.endpoints) > 1

    def choose(self, now: float, avoid: Endpoint | None = None) -> Endpoint | None:
        """The best server that its breaker lets through, or None; `avoid` only if no other can."""
        endpoints = self.endpoints
        if len(endpoints) == 1:
            only = endpoints[0]
            return only if only.breaker.allow(now) else None
        for endpoint in sorted(endpoints, key=lambda e: (e is avoid, e.cost())):
            if endpoint.breaker.allow(now):
                return endpoint
        return None

    def ready_at(self, now: float) -> float:
        """When the first server may be asked again."""
        return min(endpoint.breaker.ready_at(now) for endpoint in self.endpoints)

    def started(self, endpoint: Endpoint) -> None:
        """A call to `endpoint` is under way."""
        with self._lock:
            endpoint.inflight += 1

    def answered(self, endpoint: Endpoint, model: str, seconds: float) -> None:
        """It came back well, after `seconds`."""
        endpoint.breaker.succeeded()
        with self._lock:
            endpoint.inflight -= 1
            endpoint.outcomes["ok"] += 1
            old = endpoint.latency_ewma
            endpoint.latency_ewma = seconds if old == 0.0 else old + 0.1 * (seconds - old)
            if self._several:
                self._latencies.setdefault(model, Latencies()).add(seconds)

    def failed(self, endpoint: Endpoint, failure: Failure, now: float) -> None:
        """It failed; the breaker counts what says that the server is gone, broken or too slow."""
        if failure.kind in ("unreachable", "broken", "late"):
            endpoint.breaker.failed(now)
        else:
            endpoint.breaker.succeeded()
        with self._lock:
            endpoint.inflight -= 1
            endpoint.outcomes[failure.kind] = endpoint.outcomes.get(failure.kind, 0) + 1

    def abandoned(self, endpoint: Endpoint) -> None:
        """It was cancelled before it came back."""
        endpoint.breaker.abandoned()
        with self._lock:
            endpoint.inflight -= 1

    def hedge_after(self, model: str) -> float | None:
        """Seconds after which a second server should be asked too, or None."""
        with self._lock:
            seen = self._latencies.get(model)
            return seen.p95() if seen else None
