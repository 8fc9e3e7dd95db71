"""The synchronous driver: carries out what the core asks for, in the calling thread."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, TypeVar

import grpc

from repo_builder.client.errors import Closed
from repo_builder.client.rules.effects import Acquire, Effect, Effects, Hedge, Send
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint
from repo_builder.client.transport import channel

T = TypeVar("T")


class _Reconnector:
    """Has gRPC go on connecting to servers that could not be reached, while no call is under way.

    gRPC's synchronous core only looks after connections while some call waits, and otherwise every
    5 s (GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS), but gives up each attempt after 1 s: with all
    calls held back by the breaker, a server that is there again would not be noticed. So one
    call is kept waiting for a connection. It is given up as soon as another is answered, as that
    one and its followers look after all connections themselves, and two would cost them 30 us each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Endpoint, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def begin(self, endpoint: Endpoint, live: Any) -> None:
        """Wait for a connection to `endpoint` with its method `live`, then tell the breaker."""
        with self._lock:
            if endpoint in self._waiting:
                return
            self._waiting[endpoint] = attempt = live.future(b"", wait_for_ready=True)

        def done(_: Any) -> None:
            with self._lock:
                if self._waiting.get(endpoint) is attempt:
                    del self._waiting[endpoint]
            # Whatever else the server says, it is there; UNAVAILABLE may come from a proxy.
            if attempt.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
                endpoint.breaker.reachable()

        attempt.add_done_callback(done)

    def end(self, *, wait: bool = False) -> None:
        """Give all up; with `wait` they are out of gRPC by then."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for attempt in waiting.values():
            attempt.cancel()
        for attempt in waiting.values() if wait else ():
            attempt.code()  # returns when it has ended


class SyncDriver:
    """Blocks the calling thread; any number of threads may call at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[Endpoint, Any] = {}
        self._methods: dict[Endpoint, dict[str, Any]] = {}
        self._reconnector = _Reconnector()
        self._closed = False

    def drive(self, effects: Effects[T]) -> T:
        """Run the core's effects to their end."""
        try:
            effect = next(effects)
            while True:
                effect = effects.send(self._perform(effect))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except BaseException:
            # The calling thread was interrupted: the core must hand back what it holds.
            effects.close()
            raise

    def quiesce(self) -> None:
        """Before a fork: have no call of our own under way."""
        self._reconnector.end(wait=True)

    def close(self) -> None:
        """Close all connections; calls under way fail, and open none again."""
        with self._lock:
            self._closed = True
            channels, self._channels, self._methods = self._channels, {}, {}
        self._reconnector.end()
        for one in channels.values():
            one.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return self._watch(effect, self._send(effect))
        if isinstance(effect, Hedge):
            first, second = self._hedge(effect)
            return self._watch(effect.first, first), self._watch(effect.second, second)
        if isinstance(effect, Acquire):
            return self._acquire(effect)
        time.sleep(effect.seconds)
        return None

    def _call(self, send: Send) -> Any:
        methods = self._methods.get(send.endpoint)
        if methods is None:
            with self._lock:
                methods = self._methods.get(send.endpoint)
                if methods is None:
                    if self._closed:
                        raise Closed("the client was closed")
                    endpoint = send.endpoint
                    opened = channel.open_channel(endpoint.address, endpoint.servers, grpc)
                    self._channels[endpoint] = opened
                    methods = self._methods[endpoint] = channel.methods(opened)
        return methods[send.method]

    def _send(self, send: Send) -> Any:
        call = self._call(send)
        servers = send.endpoint.servers
        try:
            return call(
                send.body,
                timeout=send.timeout,
                metadata=channel.metadata(servers),
                compression=channel.COMPRESSION[servers.compression],
            )
        except grpc.RpcError as error:
            return channel.failure(error)
        except ValueError as error:
            return Failure("CANCELLED", str(error))

    def _watch(self, send: Send, outcome: Any) -> Any:
        """Returns `outcome`; has gRPC reconnect after no connection came about, until an answer."""
        if isinstance(outcome, Failure):
            methods = self._methods.get(send.endpoint)
            if outcome.kind == "unreachable" and methods is not None:
                with contextlib.suppress(ValueError):  # the channel was closed meanwhile
                    self._reconnector.begin(send.endpoint, methods["ServerLive"])
        elif self._reconnector and outcome is not None:
            self._reconnector.end()
        return outcome

    def _start(self, send: Send) -> Any:
        servers = send.endpoint.servers
        return self._call(send).future(
            send.body,
            timeout=send.timeout,
            metadata=channel.metadata(servers),
            compression=channel.COMPRESSION[servers.compression],
        )

    def _hedge(self, hedge: Hedge) -> tuple[Any, Any]:
        done = threading.Semaphore(0)
        started = time.monotonic()
        first = self._start(hedge.first)
        second = None
        try:
            first.add_done_callback(lambda _: done.release())
            if done.acquire(timeout=hedge.after):
                return _outcome(first), None
            second = self._start(hedge.second)
            second.add_done_callback(lambda _: done.release())
            outcomes: list[Any] = [None, None]
            end = started + hedge.first.timeout + 0.02
            for _ in range(2):
                done.acquire(timeout=max(0.0, end - time.monotonic()))
                for i, call in enumerate((first, second)):
                    if call.done() and outcomes[i] is None:
                        outcomes[i] = _outcome(call)
                        if not isinstance(outcomes[i], Failure):
                            return outcomes[0], outcomes[1]
            if outcomes == [None, None]:
                outcomes[0] = Failure("DEADLINE_EXCEEDED", "neither of two servers answered")
            return outcomes[0], outcomes[1]
        finally:
            for call in (first, second):
                if call is not None:
                    call.cancel()

    def _acquire(self, effect: Acquire) -> bool | None:
        event = threading.Event()
        admitted = event.set
        if not effect.bulkhead.enqueue(admitted):
            return None
        try:
            if event.wait(effect.timeout):
                return True
        except BaseException:
            effect.bulkhead.withdraw(admitted)
            raise
        effect.bulkhead.withdraw(admitted)
        return False


def _outcome(call: Any) -> Any:
    """What a finished call brought."""
    try:
        return call.result(timeout=0)
    except grpc.RpcError as error:
        return channel.failure(error)
    except (grpc.FutureCancelledError, grpc.FutureTimeoutError):
        return Failure("CANCELLED", "cancelled")
