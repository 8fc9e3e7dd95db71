"""The synchronous driver: carries out what the core asks for, in the calling thread."""

from __future__ import annotations

import threading
import time
from typing import Any, TypeVar

import grpc

from repo_builder.client import channel
from repo_builder.client.effects import Effect, Enter, Race, Send, Steps
from repo_builder.client.errors import Closed
from repo_builder.client.sides import Endpoint, Failure

T = TypeVar("T")


class SyncDriver:
    """Blocks the calling thread; any number of threads may call at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[Endpoint, Any] = {}
        self._methods: dict[Endpoint, dict[str, Any]] = {}
        self._watched: set[Endpoint] = set()
        self._closed = False

    def drive(self, steps: Steps[T]) -> T:
        """Run the core's steps to their end."""
        try:
            effect = next(steps)
            while True:
                effect = steps.send(self._perform(effect))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except BaseException:
            # The calling thread was interrupted: the core must hand back what it holds.
            steps.close()
            raise

    def close(self) -> None:
        """Close all connections; calls under way fail, and open none again."""
        with self._lock:
            self._closed = True
            channels, self._channels, self._methods = self._channels, {}, {}
        for one in channels.values():
            one.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            call = self._call(effect)
            servers = effect.endpoint.servers
            try:
                return call(
                    effect.body,
                    timeout=effect.timeout,
                    metadata=channel.metadata(servers),
                    compression=channel.COMPRESSION[servers.compression],
                )
            except grpc.RpcError as error:
                return self._failed(effect.endpoint, channel.failure(error))
            except ValueError as error:
                return Failure("CANCELLED", str(error))
        if isinstance(effect, Race):
            outcomes = self._race(effect)
            for send, outcome in zip((effect.first, effect.second), outcomes, strict=True):
                if isinstance(outcome, Failure):
                    self._failed(send.endpoint, outcome)
            return outcomes
        if isinstance(effect, Enter):
            return self._enter(effect)
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

    def _failed(self, endpoint: Endpoint, failure: Failure) -> Failure:
        """Returns `failure`; where no connection came about, has gRPC go on trying meanwhile.

        gRPC's synchronous core only looks after a connection while some call waits, and otherwise
        every 5 s (GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS), but gives each attempt 1 s: with
        all calls held back by the breaker, a server that is there again would not be noticed.
        Watching the channel's state is such a wait.
        """
        if failure.kind != "unreachable":
            return failure

        def watch(state: grpc.ChannelConnectivity) -> None:
            if state is grpc.ChannelConnectivity.READY:
                opened.unsubscribe(watch)
                self._watched.discard(endpoint)
                endpoint.breaker.reachable()

        with self._lock:  # against close(), after which a channel cannot be watched
            opened: Any = self._channels.get(endpoint)
            if opened is not None and endpoint not in self._watched:
                self._watched.add(endpoint)
                opened.subscribe(watch, try_to_connect=True)
        return failure

    def _start(self, send: Send) -> Any:
        servers = send.endpoint.servers
        return self._call(send).future(
            send.body,
            timeout=send.timeout,
            metadata=channel.metadata(servers),
            compression=channel.COMPRESSION[servers.compression],
        )

    def _race(self, race: Race) -> tuple[Any, Any]:
        done = threading.Semaphore(0)
        started = time.monotonic()
        first = self._start(race.first)
        second = None
        try:
            first.add_done_callback(lambda _: done.release())
            if done.acquire(timeout=race.after):
                return _outcome(first), None
            second = self._start(race.second)
            second.add_done_callback(lambda _: done.release())
            outcomes: list[Any] = [None, None]
            end = started + race.first.timeout + 0.02
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

    def _enter(self, effect: Enter) -> bool | None:
        event = threading.Event()
        admitted = event.set
        if not effect.gate.wait(admitted):
            return None
        try:
            if event.wait(effect.timeout):
                return True
        except BaseException:
            effect.gate.give_up(admitted)
            raise
        effect.gate.give_up(admitted)
        return False


def _outcome(call: Any) -> Any:
    """What a finished call brought."""
    try:
        return call.result(timeout=0)
    except grpc.RpcError as error:
        return channel.failure(error)
    except (grpc.FutureCancelledError, grpc.FutureTimeoutError):
        return Failure("CANCELLED", "cancelled")
