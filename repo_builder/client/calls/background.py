"""Many calls at once: an event loop behind the synchronous client, and what runs on one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar

from repo_builder.client.calls.batcher import Groups, joined, parts
from repo_builder.client.calls.core import Core
from repo_builder.client.errors import ClientError, InvalidInput, ServerFailed
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Batch, Inputs
from repo_builder.client.transport.async_driver import AsyncDriver

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


class Caller:
    """Infers items with one model, each within `timeout`; errors are results if so wanted."""

    def __init__(
        self, driver: AsyncDriver, core: Core, model: str, timeout: float | None, errors: bool
    ) -> None:
        self._driver = driver
        self._core = core
        self._model = model
        self._timeout = core.settings.limits.timeout if timeout is None else timeout
        self._errors = errors

    def known(self) -> Model | None:
        """The model as the edge described it, if it did."""
        return self._core.catalog.known(self._core.edge, self._model)

    async def one(self, inputs: Inputs) -> Any:
        """The answer to one item."""
        return await self._infer(inputs, self._timeout)

    async def all(self, items: Sequence[Inputs], batches: Sequence[Batch]) -> list[Any]:
        """The answers to items that may travel together, as `batches`; or to a single one."""
        if len(items) == 1:
            return [await self.one(items[0])]
        begun = self._core.clock()
        try:
            steps = self._core.infer(self._model, joined(batches), self._timeout, "")
            return list(parts(await self._driver.drive(steps), batches))
        except (InvalidInput, ServerFailed):
            # Perhaps because of one of them: each then tells for itself, in the time that is left.
            left = max(0.0, self._timeout - (self._core.clock() - begun))
            return list(await asyncio.gather(*(self._infer(item, left) for item in items)))
        except ClientError as error:
            if self._errors:
                return [error] * len(items)
            raise

    async def _infer(self, inputs: Inputs, timeout: float) -> Any:
        try:
            return await self._driver.drive(self._core.infer(self._model, inputs, timeout, ""))
        except ClientError as error:
            if self._errors:
                return error
            raise


async def run_all(caller: Caller, items: Iterable[Inputs], concurrency: int) -> list[Any]:
    """The answers to all items, `concurrency` under way at a time; in the items' order."""
    results: dict[int, Any] = {}
    groups = Groups(items, caller.known, concurrency // 2)

    async def work(number: int) -> None:
        # The more travel together, the fewer requests make up `concurrency` items.
        while number < max(1, concurrency // groups.size):
            begin = groups.taken
            group, batches = groups.take()
            if not group:
                return
            results.update(enumerate(await caller.all(group, batches), begin))

    workers = [asyncio.ensure_future(work(number)) for number in range(max(1, concurrency))]
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
