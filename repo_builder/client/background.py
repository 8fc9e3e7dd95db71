"""Many calls at once: an event loop behind the synchronous client, and what runs on one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from repo_builder.client.aio_driver import AsyncDriver
from repo_builder.client.core import Core, Inputs
from repo_builder.client.errors import ClientError

T = TypeVar("T")


def _not_grpc_noise(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, BlockingIOError) and "PollerCompletionQueue" in str(record.msg))


class Background:
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


def caller(
    driver: AsyncDriver, core: Core, model: str, timeout: float | None, return_errors: bool
) -> Callable[[Inputs], Any]:
    """A coroutine function that infers one item, with errors as results if so wanted."""

    async def call(inputs: Inputs) -> Any:
        try:
            return await driver.drive(core.infer(model, inputs, timeout, ""))
        except ClientError as error:
            if return_errors:
                return error
            raise

    return call


async def run_all(
    call: Callable[[Inputs], Any], items: Iterable[Inputs], concurrency: int
) -> list[Any]:
    """`call` on every item, `concurrency` at a time; results by item."""
    results: dict[int, Any] = {}
    numbered = enumerate(items)

    async def work() -> None:
        for number, item in numbered:
            results[number] = await call(item)

    workers = [asyncio.ensure_future(work()) for _ in range(max(1, concurrency))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
    return [results[number] for number in range(len(results))]


async def each(frames: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """The items of either kind of iterable."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
    else:
        for frame in frames:
            yield frame
