"""One thread that writes to disk behind the calls: a slow disk costs no call its deadline."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger("repo_builder.client")
_QUEUE = 1024
_AT_ONCE = 64


class WriteBehind(Generic[T]):
    """Hands items to `write`, several at once, in order; drops what comes faster than it goes.

    `write` may raise OSError or sqlite3.Error (a full disk, say): its items are lost, `failed` is
    told how many, and the next ones are tried again.
    """

    def __init__(self, write: Callable[[list[T]], None], failed: Callable[[int], None]) -> None:
        self._write, self._failed = write, failed
        self._queue: queue.Queue[T | None] = queue.Queue(_QUEUE)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._warned = False

    def put(self, item: T) -> bool:
        """Queue `item`; False where the queue is full and it was dropped."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="repo-builder-writer", daemon=True
                    )
                    self._thread.start()
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def flush(self) -> None:
        """Wait until everything queued so far was written or lost."""
        if self._thread is not None:
            self._queue.join()

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        import sqlite3

        while True:
            items = [self._queue.get()]
            while len(items) < _AT_ONCE and not self._queue.empty():
                items.append(self._queue.get())
            wanted = [item for item in items if item is not None]
            try:
                if wanted:
                    self._write(wanted)
            except (OSError, sqlite3.Error) as error:
                self._failed(len(wanted))
                if not self._warned:
                    self._warned = True
                    _log.warning("cannot write to disk, going on without: %s", error)
            finally:
                for _ in items:
                    self._queue.task_done()
            if len(wanted) < len(items):
                return
