"""Many calls of one application at once, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar

from repo_builder.client.calls.batcher import Batcher, concatenate, split
from repo_builder.client.calls.core import Core
from repo_builder.client.errors import ClientError, InvalidInput, ServerFailed
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Batch, Inputs
from repo_builder.client.transport.async_driver import AsyncDriver

T = TypeVar("T")


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
            effects = self._core.infer(self._model, concatenate(batches), self._timeout, "")
            return list(split(await self._driver.drive(effects), batches))
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
    batcher = Batcher(items, caller.known, concurrency // 2)

    async def work(number: int) -> None:
        # The more travel together, the fewer requests make up `concurrency` items.
        while number < max(1, concurrency // batcher.size):
            begin = batcher.taken
            group, batches = batcher.next_batch()
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
