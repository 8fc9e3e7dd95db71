"""`EdgeClient` and `AsyncEdgeClient`: the same surface, the same core, two drivers."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Literal, overload

from repo_builder.client.calls.context import Settings
from repo_builder.client.calls.core import Core
from repo_builder.client.errors import ClientError, Closed
from repo_builder.client.metrics import Metrics
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Inputs
from repo_builder.client.options import (
    Breaker,
    Cache,
    Collector,
    Fallback,
    Limits,
    Retry,
    Servers,
    SharedMemory,
)
from repo_builder.client.result import Result
from repo_builder.client.transport.async_driver import AsyncDriver
from repo_builder.client.transport.sync_driver import SyncDriver

if TYPE_CHECKING:
    # Imported only where many calls at once are wanted: every start would pay for it.
    from repo_builder.client.calls.background import BackgroundLoop
    from repo_builder.client.sequence import AsyncSequence, SyncSequence

Addresses = str | Sequence[str] | Servers


class _Client:
    """What both clients are made of."""

    def __init__(
        self,
        edge: Addresses,
        cloud: Addresses | None = None,
        *,
        limits: Limits | None = None,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
        fallback: Fallback | None = None,
        shared_memory: SharedMemory | None = None,
        cache: Cache | None = None,
        collector: Collector | None = None,
    ) -> None:
        self._settings = Settings(
            edge=Servers.of(edge),
            cloud=None if cloud is None else Servers.of(cloud),
            limits=limits or Limits(),
            retry=retry or Retry(),
            breaker=breaker or Breaker(),
            fallback=fallback or Fallback(),
            shared_memory=shared_memory or SharedMemory(),
            cache=cache,
            collector=collector,
        )
        self._open()
        _clients.add(self)

    def _open(self) -> None:
        self._core = Core(self._settings)

    def _before_fork(self) -> None:
        """Before a fork: let go of threads that can be had again."""

    def _after_fork(self) -> None:
        """In a forked child: nothing of the parent's connections and locks can be used."""
        _parents.append(dict(vars(self)))
        self._open()

    @property
    def metrics(self) -> Metrics:
        """Counters and histograms of all calls of this client: see `Metrics`."""
        return self._core.metrics


class EdgeClient(_Client):
    """Asks the device's own Triton, and the cloud's where the device's model is not sure.

    `edge` and `cloud` are a gRPC address ("localhost:8001"), several, or `Servers` with TLS and
    token; without `cloud` every answer is the edge's. What is not given has the defaults of its
    class; without `cache` and `collector` nothing is written to disk. Nothing connects before the
    first call. Raises ValueError for options that do not fit together.

    Thread-safe; close it or use it as a context manager. After a fork the child has connections of
    its own, provided that no call was under way (a limit of gRPC's).
    """

    def _open(self) -> None:
        super()._open()
        self._driver = SyncDriver()
        self._background: BackgroundLoop | None = None
        self._background_lock = threading.Lock()

    def infer(
        self, model: str, inputs: Inputs, *, timeout: float | None = None, version: str = ""
    ) -> Result:
        """Run `model` on one sample or a batch, within `timeout` seconds for everything.

        `inputs` is name -> array, or the array alone where the model has one input; with the
        batch axis or, for one sample, without it. Types must match: nothing is cast. More rows
        than the model takes at once (`describe(model).max_rows`) travel in parts, one after the
        other; the answer has all rows, in order, of one version.

        Raises InvalidInput, ModelNotFound, DeadlineExceeded, Unavailable, Overloaded, ServerFailed
        and Closed.
        """
        return self._driver.drive(self._core.infer(model, inputs, timeout, version))

    def describe(self, model: str, *, timeout: float | None = None, version: str = "") -> Model:
        """What the edge's server, or else the cloud's, says of `model`: see `Model`.

        `timeout` is in seconds. Raises ModelNotFound, Unavailable, Closed, InvalidInput for a
        `version` that is none, and ServerFailed where the model's config cannot be read.
        """
        return self._driver.drive(self._core.describe(model, timeout, version))

    def sequence(
        self,
        model: str,
        *,
        states: Mapping[str, str] | None = None,
        initial: Mapping[str, Any] | None = None,
    ) -> SyncSequence:
        """One run through a recurrent or streaming model, whose state goes from call to call.

        `states` maps inputs to outputs, as the builder found them where it is not given; `initial`
        maps inputs to first values, of the input's shape with the batch axis if calls have one,
        else they are zeros. Asks nobody, and raises nothing: the first call of it does.
        """
        from repo_builder.client.sequence import SyncSequence

        return SyncSequence(self, model, states, initial)

    def image(self, model: str, image: bytes, *, timeout: float | None = None) -> Result:
        """Run `model` on one encoded image (JPEG, PNG ...), prepared as its spec says.

        `timeout` is in seconds. The answer is that to one sample. Raises as `infer`; InvalidInput
        also where the bytes are no image, or the model's spec does not say how to prepare one.
        """
        inputs = self._driver.drive(self._core.image_inputs(model, image, timeout))
        return self.infer(model, inputs, timeout=timeout)

    @overload
    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = ...,
        timeout: float | None = ...,
        return_errors: Literal[False] = ...,
    ) -> list[Result]: ...

    @overload
    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = ...,
        timeout: float | None = ...,
        return_errors: Literal[True],
    ) -> list[Result | ClientError]: ...

    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = 16,
        timeout: float | None = None,
        return_errors: bool = False,
    ) -> list[Result] | list[Result | ClientError]:
        """Run `model` on each item, `concurrency` at a time; answers in the items' order.

        An item is what `infer` takes, a sample or a batch. `timeout`, in seconds, is each item's
        own. Small items of a model with `dynamic_batching` share requests. The first error, of
        those that `infer` raises, stops all and is raised, unless `return_errors` puts errors in
        their items' places.
        """
        from repo_builder.client.calls.concurrent import Caller, run_all

        background = self._in_background()
        caller = Caller(background.driver, self._core, model, timeout, return_errors)
        answers: list[Any] = background.run(run_all(caller, items, concurrency))
        return answers

    def stream(
        self,
        model: str,
        frames: Iterable[Inputs],
        *,
        window: int = 4,
        timeout: float | None = None,
        return_errors: bool = False,
    ) -> Iterator[Any]:
        """Run `model` on frames as they come, `window` of them under way; answers in order.

        A frame is what `infer` takes. The next one is taken from `frames` only when an answer was
        fetched, so a slow consumer slows the source down and nothing piles up. Yields a `Result`
        each; `timeout`, in seconds, and `return_errors` are as of `infer_many`.
        """
        from repo_builder.client.calls.concurrent import Caller

        background = self._in_background()
        caller = Caller(background.driver, self._core, model, timeout, return_errors)
        under_way: deque[Any] = deque()
        try:
            for frame in frames:
                under_way.append(background.start(caller.one(frame)))
                if len(under_way) >= window:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for one in under_way:
                one.cancel()

    def close(self) -> None:
        """Close all connections. Calls under way fail; later ones raise Closed."""
        self._driver.drive(self._core.close())
        with self._background_lock:
            background, self._background = self._background, None
        if background:
            background.close()
        self._driver.close()

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _before_fork(self) -> None:
        self._driver.quiesce()
        with self._background_lock:
            background = self._background
            if background is None or background.busy():
                return
            self._background = None
        background.close()

    def _in_background(self) -> BackgroundLoop:
        with self._background_lock:
            if self._core.closed:
                raise Closed("the client was closed")
            if self._background is None:
                from repo_builder.client.calls.background import BackgroundLoop

                self._background = BackgroundLoop()
            return self._background


class AsyncEdgeClient(_Client):
    """`EdgeClient` for asyncio: the same methods, awaited; `stream` is an async iterator.

    Cancelling a task cancels its call on the server.
    """

    def _open(self) -> None:
        super()._open()
        self._driver = AsyncDriver()

    async def infer(
        self, model: str, inputs: Inputs, *, timeout: float | None = None, version: str = ""
    ) -> Result:
        """As `EdgeClient.infer`."""
        return await self._driver.drive(self._core.infer(model, inputs, timeout, version))

    async def describe(
        self, model: str, *, timeout: float | None = None, version: str = ""
    ) -> Model:
        """As `EdgeClient.describe`."""
        return await self._driver.drive(self._core.describe(model, timeout, version))

    def sequence(
        self,
        model: str,
        *,
        states: Mapping[str, str] | None = None,
        initial: Mapping[str, Any] | None = None,
    ) -> AsyncSequence:
        """As `EdgeClient.sequence`; its `infer` is awaited."""
        from repo_builder.client.sequence import AsyncSequence

        return AsyncSequence(self, model, states, initial)

    async def image(self, model: str, image: bytes, *, timeout: float | None = None) -> Result:
        """As `EdgeClient.image`."""
        inputs = await self._driver.drive(self._core.image_inputs(model, image, timeout))
        return await self.infer(model, inputs, timeout=timeout)

    async def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = 16,
        timeout: float | None = None,
        return_errors: bool = False,
    ) -> list[Any]:
        """As `EdgeClient.infer_many`."""
        from repo_builder.client.calls.concurrent import Caller, run_all

        caller = Caller(self._driver, self._core, model, timeout, return_errors)
        return await run_all(caller, items, concurrency)

    async def stream(
        self,
        model: str,
        frames: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        window: int = 4,
        timeout: float | None = None,
        return_errors: bool = False,
    ) -> AsyncIterator[Any]:
        """As `EdgeClient.stream`, for `async for`; `frames` may be an async iterable too."""
        from repo_builder.client.calls.concurrent import Caller, each

        caller = Caller(self._driver, self._core, model, timeout, return_errors)
        under_way: deque[asyncio.Task[Any]] = deque()
        try:
            async for frame in each(frames):
                under_way.append(asyncio.ensure_future(caller.one(frame)))
                if len(under_way) >= window:
                    yield await under_way.popleft()
            while under_way:
                yield await under_way.popleft()
        finally:
            for one in under_way:
                one.cancel()

    async def close(self) -> None:
        """As `EdgeClient.close`."""
        await self._driver.drive(self._core.close())
        await self._driver.close()

    async def __aenter__(self) -> AsyncEdgeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_clients: weakref.WeakSet[_Client] = weakref.WeakSet()
# Kept for good: to destroy the parent's connections in a child would disturb the parent.
_parents: list[Any] = []


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._after_fork()


def _before_any_fork() -> None:
    # gRPC survives a fork only where no thread is inside it, and an event loop's always is.
    for client in list(_clients):
        client._before_fork()


os.register_at_fork(before=_before_any_fork, after_in_child=_after_fork_in_child)
