"""The circuit breaker of one server.

No I/O and no clock of its own: `now` is in seconds of a monotonic clock, so that a jump of the wall
clock means nothing and a simulator can drive it. Thread-safe.
"""

from __future__ import annotations

import math
import random
import threading
from typing import Literal

from repo_builder.client.options import Breaker

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Closed: calls pass. Open: none do. Half-open: one probe decides."""

    def __init__(self, options: Breaker) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._failures = 0
        self._cooldown = options.cooldown
        self._open_until = -math.inf
        self._probe_until = -math.inf
        self.state: State = "closed"
        self.opened = 0

    def ready_at(self, now: float) -> float:
        """When the next call may pass: `now`, or later."""
        if self.state == "closed":
            return now
        return max(now, self._open_until, self._probe_until)

    def allow(self, now: float) -> bool:
        """Whether a call may pass. In half-open only one may, until it reports back.

        A probe that never reports (its thread died) is given up after the cool-down.
        """
        if self.state == "closed":
            return True
        with self._lock:
            if now < self._open_until or now < self._probe_until:
                return False
            self.state = "half-open"
            self._probe_until = now + max(self._cooldown, 1.0)
            return True

    def succeeded(self) -> None:
        """A call came back well."""
        if self._failures == 0 and self.state == "closed":
            return
        with self._lock:
            self._failures = 0
            self._cooldown = self._options.cooldown
            self._probe_until = -math.inf
            self.state = "closed"

    def failed(self, now: float) -> None:
        """A call found the server gone, broken, or too slow."""
        with self._lock:
            self._failures += 1
            if self.state == "half-open":
                self._cooldown = min(self._cooldown * 2, self._options.max_cooldown)
            elif self.state == "open" or self._failures < self._options.failures:
                return
            self.state = "open"
            self.opened += 1
            self._probe_until = -math.inf
            self._open_until = now + self._cooldown * random.uniform(0.8, 1.0)  # noqa: S311

    def reachable(self) -> None:
        """A connection to the server came about: the next call may be the probe."""
        with self._lock:
            self._open_until = -math.inf

    def abandoned(self) -> None:
        """A call ended without a verdict (cancelled): a probe's place is free again."""
        with self._lock:
            self._probe_until = -math.inf
