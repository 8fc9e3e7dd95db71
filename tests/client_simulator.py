"""Drives the client's core without a network: a virtual clock and servers that are functions.

Requests are parsed with Triton's own protobuf, so what the client puts on the wire is tested too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from repo_builder.client.calls.context import Settings
from repo_builder.client.calls.core import Core
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
from repo_builder.client.rules.effects import Acquire, Effect, Hedge, Send, Sleep
from repo_builder.client.rules.failure import Failure

POLICY = {"policy": "max_probability", "output": "logits", "threshold": 0.85}
GONE = Failure("UNAVAILABLE", "failed to connect to all addresses")
BROKEN = Failure("UNAVAILABLE", "recvmsg: Connection reset by peer")
BUSY = Failure("RESOURCE_EXHAUSTED", "no room")


@dataclass
class Server:
    """Answers as the echo model of tests/cases/client_models.py does. `fault(now, method)` may say
    (seconds, Failure) for what happens instead; `latency` is in seconds."""

    who: float = 0.0
    version: str = "1000000"
    latency: float = 0.001
    policy: dict[str, Any] | None = field(default_factory=lambda: dict(POLICY))
    models: tuple[str, ...] = ("echo",)
    fault: Callable[[float, str], tuple[float, Failure] | None] = lambda _now, _method: None
    max_rows: int = 64
    stateful: bool = False
    seen: list[Any] = field(default_factory=list)

    def answer(self, now: float, send: Send) -> tuple[float, Any]:
        fault = self.fault(now, send.method)
        if fault:
            return fault
        if send.method == "ModelConfig":
            request = service_pb2.ModelConfigRequest.FromString(send.body)
            return self.latency, self._config(request.name)
        if send.method == "RepositoryIndex":
            response = service_pb2.RepositoryIndexResponse()
            for name in self.models:
                response.models.add(name=name, version=self.version, state="READY")
            return self.latency, response
        request = service_pb2.ModelInferRequest.FromString(send.body)
        self.seen.append(request)
        assert request.parameters["timeout"].int64_param >= 1000
        return self.latency, self._infer(request)

    def _config(self, name: str) -> Any:
        if name not in self.models:
            return Failure("NOT_FOUND", f"Request for unknown model: '{name}' is not found")
        config = service_pb2.ModelConfigResponse().config
        response = service_pb2.ModelConfigResponse()
        config = response.config
        config.name, config.max_batch_size = name, self.max_rows
        config.input.add(name="x", data_type="TYPE_FP32", dims=[4])
        for output, size in (("logits", 3), ("id", 1), ("who", 1)):
            config.output.add(name=output, data_type="TYPE_FP32", dims=[size])
        if self.policy:
            text = json.dumps(self.policy)
            config.parameters["repo_builder.confidence"].string_value = text
        config.parameters["repo_builder.version"].string_value = "1.0.0"
        if self.stateful:
            config.sequence_batching.SetInParent()
        return response

    def _infer(self, request: Any) -> Any:
        if request.model_name not in self.models:
            return Failure("NOT_FOUND", "Request for unknown model")
        x = np.frombuffer(request.raw_input_contents[0], np.float32)
        x = x.reshape(request.inputs[0].shape)
        outputs = {"logits": x[:, :3], "id": x[:, 3:], "who": np.full((len(x), 1), self.who, "f4")}
        response = service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=self.version
        )
        for name, array in outputs.items():
            response.outputs.add(name=name, datatype="FP32", shape=array.shape)
            response.raw_output_contents.append(np.ascontiguousarray(array).tobytes())
        return response


class World:
    """A clock, servers by address, and one core among them."""

    def __init__(
        self,
        edge: dict[str, Server],
        cloud: dict[str, Server] | None = None,
        *,
        limits: Limits | None = None,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
        fallback: Fallback | None = None,
        cache: Cache | None = None,
        collector: Collector | None = None,
    ) -> None:
        self.now = 1000.0
        self.sent: list[Send] = []
        self.servers = {**edge, **(cloud or {})}
        settings = Settings(
            edge=Servers(tuple(edge)),
            cloud=Servers(tuple(cloud)) if cloud else None,
            limits=limits or Limits(),
            retry=retry or Retry(),
            breaker=breaker or Breaker(),
            fallback=fallback or Fallback(),
            shared_memory=SharedMemory(enabled=False),
            cache=cache,
            collector=collector,
        )
        self.core = Core(settings, clock=lambda: self.now)

    def infer(self, x: Any, timeout: float = 1.0, model: str = "echo", version: str = "") -> Any:
        return self.drive(self.core.infer(model, x, timeout, version))

    def drive(self, effects: Any) -> Any:
        try:
            effect = next(effects)
            while True:
                effect = effects.send(self._perform(effect))
        except StopIteration as stop:
            return stop.value

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            seconds, outcome = self._sent(effect, self.now, effect.timeout)
            self.now += seconds
            return outcome
        if isinstance(effect, Hedge):
            return self._hedge(effect)
        if isinstance(effect, Sleep):
            # Time has to pass for a wait to end: a pause of nothing would wait for ever.
            assert effect.seconds > 0
            self.now += effect.seconds
            return None
        assert isinstance(effect, Acquire)
        raise AssertionError("a single caller never waits at the bulkhead")

    def _sent(self, send: Send, now: float, timeout: float) -> tuple[float, Any]:
        self.sent.append(send)
        seconds, outcome = self.servers[send.endpoint.address].answer(now, send)
        if seconds > timeout:
            return timeout, Failure("DEADLINE_EXCEEDED", "Deadline Exceeded")
        return seconds, outcome

    def _hedge(self, hedge: Hedge) -> tuple[Any, Any]:
        first = self._sent(hedge.first, self.now, hedge.first.timeout)
        if first[0] <= hedge.after:
            self.now += first[0]
            return first[1], None
        second = self._sent(hedge.second, self.now + hedge.after, hedge.second.timeout)
        ends = sorted([(first[0], 0, first[1]), (hedge.after + second[0], 1, second[1])])
        results: list[Any] = [None, None]
        good = [end for end in ends if not isinstance(end[2], Failure)]
        for seconds, which, outcome in good[:1] or ends:
            results[which] = outcome
            last = seconds
        self.now += last
        return results[0], results[1]


def rows(n: int, unsure: tuple[int, ...] = (), first_id: int = 0) -> Any:
    """A batch [n, 4]: every row has its number, and is sure unless named."""
    x = np.zeros((n, 4), np.float32)
    x[:, 0] = 10.0
    x[list(unsure), 0] = 0.1
    x[:, 3] = np.arange(first_id, first_id + n)
    return x
