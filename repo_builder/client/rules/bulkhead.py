"""The bulkhead: how many calls may be under way, and how many wait for their turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Bulkhead:
    """At most `concurrency` inside, at most `queue` waiting, first come first served."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._free, self._queue = concurrency, queue
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def try_acquire(self) -> bool:
        """Take a place if one is free; nobody who waits is overtaken."""
        with self._lock:
            if self._free > 0 and not self._waiting:
                self._free -= 1
                return True
            return False

    def enqueue(self, admitted: Callable[[], None]) -> bool:
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

    def withdraw(self, admitted: Callable[[], None]) -> None:
        """Leave the queue; where the place was taken already, hand it on."""
        with self._lock:
            if admitted in self._waiting:
                self._waiting.remove(admitted)
                return
        self.release()

    def release(self) -> None:
        """Free a place, for the first who waits."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            admitted = self._waiting.popleft()
        admitted()

    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)
