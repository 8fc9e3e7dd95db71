"""A token bucket (rate limiter); `now` is in seconds of a monotonic clock."""

from __future__ import annotations


class TokenBucket:
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
