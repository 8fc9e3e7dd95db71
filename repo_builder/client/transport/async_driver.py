"""The asynchronous driver: carries out what the core asks for, on the running event loop."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import grpc
import grpc.aio

from repo_builder.client.errors import Closed
from repo_builder.client.rules.effects import Acquire, Effects, Hedge, Send, Sleep
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint
from repo_builder.client.transport import channel

T = TypeVar("T")


class AsyncDriver:
    """Belongs to the event loop it is first used on; another loop gets connections of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channels: dict[Endpoint, Any] = {}
        self._methods: dict[Endpoint, dict[str, Any]] = {}
        self._reconnects: dict[Endpoint, asyncio.Task[None]] = {}
        self._closed = False

    async def drive(self, effects: Effects[T]) -> T:
        """Run the core's effects to their end; a cancelled task cancels its call on the server."""
        try:
            effect = next(effects)
            while True:
                if isinstance(effect, Send):
                    effect = effects.send(await self._send(effect))
                else:
                    effect = effects.send(await self._perform(effect))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except BaseException:
            effects.close()
            raise

    async def close(self) -> None:
        """Close all connections; calls under way fail, and open none again."""
        self._closed = True
        channels, self._channels, self._methods = self._channels, {}, {}
        for reconnect in self._reconnects.values():
            reconnect.cancel()
        for one in channels.values():
            await one.close()

    async def _perform(self, effect: Hedge | Sleep | Acquire) -> Any:
        if isinstance(effect, Hedge):
            return await self._hedge(effect)
        if isinstance(effect, Acquire):
            return await self._acquire(effect)
        await asyncio.sleep(effect.seconds)
        return None

    async def _send(self, send: Send) -> Any:
        servers = send.endpoint.servers
        try:
            return await self._call(send)(
                send.body,
                timeout=send.timeout,
                metadata=channel.metadata(servers),
                compression=channel.COMPRESSION[servers.compression],
            )
        except grpc.RpcError as error:
            failure = channel.failure(error)
            if failure.kind == "unreachable":
                self._reconnect(send.endpoint)
            return failure
        except grpc.aio.UsageError as error:
            return Failure("CANCELLED", str(error))

    def _call(self, send: Send) -> Any:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._channels, self._methods, self._reconnects = loop, {}, {}, {}
        methods = self._methods.get(send.endpoint)
        if methods is None:
            if self._closed:
                raise Closed("the client was closed")
            endpoint = send.endpoint
            opened = channel.open_channel(endpoint.address, endpoint.servers, grpc.aio)
            self._channels[endpoint] = opened
            methods = self._methods[endpoint] = channel.methods(opened)
        return methods[send.method]

    def _reconnect(self, endpoint: Endpoint) -> None:
        """Wait for a connection, then tell the breaker; see sync_driver's `_Reconnector`."""
        methods, reconnects = self._methods.get(endpoint), self._reconnects
        if methods is None or endpoint in reconnects:
            return

        async def reconnect() -> None:
            try:
                await methods["ServerLive"](b"", wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return
            finally:
                del reconnects[endpoint]
            endpoint.breaker.reachable()

        reconnects[endpoint] = asyncio.ensure_future(reconnect())

    async def _hedge(self, hedge: Hedge) -> tuple[Any, Any]:
        tasks = [asyncio.ensure_future(self._send(hedge.first))]
        try:
            await asyncio.wait(tasks, timeout=hedge.after)
            if tasks[0].done():
                return tasks[0].result(), None
            tasks.append(asyncio.ensure_future(self._send(hedge.second)))
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not all(isinstance(task.result(), Failure) for task in done):
                    break
            first, second = (task.result() if task.done() else None for task in tasks)
            return first, second
        finally:
            for task in tasks:
                task.cancel()

    async def _acquire(self, effect: Acquire) -> bool | None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def admitted() -> None:
            # The place may be handed over by a thread, also after the loop has been closed.
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                effect.bulkhead.release()

        if not effect.bulkhead.enqueue(admitted):
            return None
        try:
            await asyncio.wait_for(event.wait(), effect.timeout)
        except asyncio.TimeoutError:
            effect.bulkhead.withdraw(admitted)
            return False
        except BaseException:
            effect.bulkhead.withdraw(admitted)
            raise
        return True
