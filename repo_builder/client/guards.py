"""The state machines that keep a call from doing harm: breaker, retry budget, rate, gate.

No I/O and no clock of their own: every method takes `now`, in seconds of a monotonic clock, so that
a jump of the wall clock means nothing and a simulator can drive them. They are thread-safe.
"""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable
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

    def enter(self, now: float) -> bool:
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


class RetryBudget:
    """Repeats are at most a share of the calls, so that they cannot bring down what limps.

    Every call puts `share` of a token into the bucket, every repeat takes one. The bucket starts
    and is capped at `reserve`; `trickle` tokens a second come on top, so that a client that was
    quiet for long may still try.
    """

    def __init__(self, share: float, reserve: float, trickle: float = 1.0) -> None:
        self._share, self._reserve, self._trickle = share, reserve, trickle
        self._tokens = reserve
        self._filled_at: float | None = None
        self._lock = threading.Lock()

    def called(self) -> None:
        """A first attempt was made."""
        if self._tokens < self._reserve:
            with self._lock:
                self._tokens = min(self._reserve, self._tokens + self._share)

    def take(self, now: float) -> bool:
        """Whether one repeat may be made now."""
        with self._lock:
            if self._filled_at is not None:
                fresh = (now - self._filled_at) * self._trickle
                self._tokens = min(self._reserve, self._tokens + fresh)
            self._filled_at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


def backoff(attempt: int, delay: float, max_delay: float, luck: float) -> float:
    """Seconds before repeat number `attempt` (from 1): full jitter, `luck` in [0, 1)."""
    return float(min(max_delay, delay * 2.0 ** min(attempt - 1, 30)) * luck)


class Allowance:
    """A token bucket: at most `rate` units a second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level = burst
        self._at: float | None = None

    def available(self, now: float) -> float:
        """Units that could be taken now."""
        if self._at is not None and now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take `amount` units; the caller asked `available` first, under its own lock."""
        self.available(now)
        self._level -= amount


class Gate:
    """At most `concurrency` inside, at most `queue` waiting, first come first served."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._free, self._queue = concurrency, queue
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place if one is free; nobody who waits is overtaken."""
        with self._lock:
            if self._free > 0 and not self._waiting:
                self._free -= 1
                return True
            return False

    def wait(self, admitted: Callable[[], None]) -> bool:
        """Queue up: `admitted` is called once, from another thread, when a place was taken for it.

        False where the queue is full.
        """
        with self._lock:
            if len(self._waiting) >= self._queue:
                return False
            if self._free > 0 and not self._waiting:
                self._free -= 1
            else:
                self._waiting.append(admitted)
                return True
        admitted()
        return True

    def give_up(self, admitted: Callable[[], None]) -> None:
        """Leave the queue; where the place was taken already, hand it on."""
        with self._lock:
            if admitted in self._waiting:
                self._waiting.remove(admitted)
                return
        self.leave()

    def leave(self) -> None:
        """Free a place, for the first who waits."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            admitted = self._waiting.popleft()
        admitted()

    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)
