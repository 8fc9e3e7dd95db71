"""How many repeats are allowed, and how long to wait before each.

`now` is in seconds of a monotonic clock.
"""

from __future__ import annotations

import threading


class RetryBudget:
    """Repeats are at most a share of the calls, so that they cannot bring down what limps.

    Every call puts `share` of a token into the bucket, every repeat takes one. The bucket starts
    and is capped at `reserve`; `refill` tokens a second come on top, so that a client that was
    quiet for long may still try.
    """

    def __init__(self, share: float, reserve: float, refill: float = 1.0) -> None:
        self._share, self._reserve, self._refill = share, reserve, refill
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
                fresh = (now - self._filled_at) * self._refill
                self._tokens = min(self._reserve, self._tokens + fresh)
            self._filled_at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


def backoff(attempt: int, delay: float, max_delay: float, jitter: float) -> float:
    """Seconds before repeat number `attempt` (from 1): full jitter, `jitter` in [0, 1)."""
    return float(min(max_delay, delay * 2.0 ** min(attempt - 1, 30)) * jitter)
