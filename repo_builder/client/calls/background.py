"""An event loop on a thread, behind the synchronous client."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, TypeVar

from repo_builder.client.transport.async_driver import AsyncDriver

T = TypeVar("T")


def _not_grpc_noise(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, BlockingIOError) and "PollerCompletionQueue" in str(record.msg))


class BackgroundLoop:
    """An event loop on a thread of its own: many calls at once, for less than a thread each."""

    def __init__(self) -> None:
        # All event loops of a process share gRPC's one queue, and wake each other up for nothing;
        # gRPC then logs a BlockingIOError on each, which means nothing (grpc#25364).
        logging.getLogger("asyncio").addFilter(_not_grpc_noise)
        self.driver = AsyncDriver()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="repo-builder-client", daemon=True
        )
        self._thread.start()

    def busy(self) -> bool:
        """Whether work is under way."""
        return bool(asyncio.all_tasks(self._loop))

    def start(self, work: Any) -> Any:
        """Begin `work`; returns a concurrent future, whose cancellation cancels the work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Any) -> Any:
        """Do `work` and wait for it."""
        future = self.start(work)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End all work and the thread."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.driver.close()
