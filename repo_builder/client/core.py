"""What all calls of one client share: its sides, limits, memory and figures.

No I/O: yields effects (see effects.py), so that the rules below hold for the synchronous and the
asynchronous client alike, and can be tested by a simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from repo_builder.client import wire
from repo_builder.client.asking import Asker, Exchange
from repo_builder.client.call import Call
from repo_builder.client.catalog import Catalog
from repo_builder.client.effects import Enter, Steps
from repo_builder.client.errors import (
    ClientError,
    Closed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from repo_builder.client.fallback import SecondOpinion
from repo_builder.client.guards import Gate
from repo_builder.client.metrics import Labels, Metrics
from repo_builder.client.model import Batch, Model, version_number
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
from repo_builder.client.shm import Pool
from repo_builder.client.sides import Endpoint, Failure, Side

if TYPE_CHECKING:
    from repo_builder.client.cache import FeatureCache
    from repo_builder.client.spool import Spool

Array = npt.NDArray[Any]
Inputs = Mapping[str, Any] | Any


@dataclass(frozen=True)
class Settings:
    """Everything an application chose."""

    edge: Servers
    cloud: Servers | None
    limits: Limits
    retry: Retry
    breaker: Breaker
    fallback: Fallback
    shared_memory: SharedMemory
    cache: Cache | None
    collector: Collector | None


class Core:
    """One client's rules and memory; thread-safe."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics()
        self.closed = False
        self.edge = Side("edge", settings.edge, settings.breaker)
        self.cloud = Side("cloud", settings.cloud, settings.breaker) if settings.cloud else None
        limits = settings.limits
        self.gate = Gate(limits.concurrency, limits.queue)
        self._asker = Asker(settings.retry, limits.concurrency, self.metrics, clock)
        self.catalog = Catalog(self._asker, clock)
        self.opinion = SecondOpinion(settings.fallback, self.catalog, self.run, self.metrics, clock)
        self.shared = Pool(settings.shared_memory, self.metrics)
        self.cache: FeatureCache | None = None
        self.spool: Spool | None = None
        # Imported only where wanted: SQLite and the like cost every start a few milliseconds.
        if settings.cache is not None:
            from repo_builder.client.cache import FeatureCache

            self.cache = FeatureCache(settings.cache, self.metrics)
        if settings.collector is not None:
            from repo_builder.client.spool import Spool

            self.spool = Spool(settings.collector, self.metrics)
        self.metrics.gauges(self._gauges)

    def infer(
        self, model: str, inputs: Mapping[str, Any] | Any, timeout: float | None, version: str
    ) -> Steps[Result]:
        """One call, within one deadline, behind the gate."""
        started = self.clock()
        timeout = self.settings.limits.timeout if timeout is None else timeout
        try:
            if self.closed:
                raise Closed("the client was closed")
            if not self.gate.enter():
                yield from self._wait(timeout)
            try:
                call = Call(self, model, version_number(version), started, timeout)
                result = yield from call.run(inputs)
            finally:
                self.gate.leave()
        except ClientError as error:
            self.metrics.count("errors_total", (("model", model), ("error", type(error).__name__)))
            raise
        seconds = result.timings["total"] = self.clock() - started
        self.metrics.answered(model, result.source, result.sources, seconds)
        return result

    def close(self) -> Steps[None]:
        """No call may begin any more; leave nothing behind on the servers."""
        self.closed = True
        yield from self.shared.farewell()
        for store in (self.cache, self.spool):
            if store is not None:
                store.close()

    def describe(self, model: str, timeout: float | None, version: str = "") -> Steps[Model]:
        """What the edge, or else the cloud, says of `model`."""
        timeout = self.settings.limits.timeout if timeout is None else timeout
        deadline = self.clock() + timeout
        number = version_number(version)
        patient = self.cloud is None and self.settings.retry.patient
        found = yield from self.catalog.model(self.edge, model, number, deadline, patient)
        if isinstance(found, Failure) and self.cloud is not None:
            name = self.opinion.cloud_name(model, None)
            found = yield from self.catalog.model(self.cloud, name, "", deadline, False)
        if isinstance(found, Failure):
            kind = ModelNotFound if found.kind == "absent" else Unavailable
            servers = ", ".join(self.settings.edge.addresses)
            raise kind(f"model '{model}': edge ({servers}): {found}")
        return found

    def image_inputs(self, model: str, image: bytes, timeout: float | None) -> Steps[Inputs]:
        """The inputs that the model's spec makes of an encoded image."""
        from repo_builder.client.preprocess import Preprocess

        found = yield from self.describe(model, timeout)
        if not found.preprocess:
            raise InvalidInput(f"model '{model}' does not say how it wants images prepared")
        try:
            recipe = Preprocess.from_json(found.preprocess)
            dtype = next(t.dtype for t in found.inputs if t.name == recipe.input)
            tensor = recipe.apply(image, dtype)
        except StopIteration:
            raise InvalidInput(f"model '{model}': its recipe is for an input it has not") from None
        except ValueError as error:
            raise InvalidInput(f"model '{model}': {error}") from error
        # One image is one sample: without the batch axis.
        return {recipe.input: tensor[0] if found.max_rows else tensor}

    def run(
        self,
        side: Side,
        model: Model,
        batch: Batch,
        version: str,
        deadline: float,
        patient: bool,
    ) -> Steps[tuple[dict[str, Array], str] | Failure]:
        """Have `side` run `model` on `batch`: the outputs, and the version number that answered."""

        shared = self.shared

        def finish(response: Any) -> tuple[dict[str, Array], str]:
            outputs = wire.outputs_of(response)
            return wire.with_row_axis(model.name, outputs, batch.signature.rows), str(
                response.model_version
            )

        def build(endpoint: Endpoint, left: float) -> Steps[Exchange]:
            if shared.suits(endpoint, batch):
                exchange = yield from shared.exchange(endpoint, model, version, batch, left)
                if exchange is not None:
                    return exchange
            return Exchange("ModelInfer", wire.request(model.name, version, batch, left), finish)

        answer: tuple[dict[str, Array], str] | Failure = yield from self._asker.ask(
            side,
            model.name,
            build,
            deadline,
            patient=patient,
            repeatable=model.repeatable,
        )
        return answer

    def _wait(self, timeout: float) -> Steps[None]:
        admitted = yield Enter(self.gate, timeout)
        if admitted is None:
            self.metrics.count("shed_total")
            raise Overloaded(
                f"{self.settings.limits.concurrency} calls are under way and "
                f"{self.settings.limits.queue} wait: not sent (see Limits)"
            )
        if not admitted:
            raise DeadlineExceeded(f"no turn within {timeout:g} s: too many calls under way")

    def _gauges(self) -> Iterator[tuple[str, Labels, float]]:
        yield "queue", (), float(self.gate.waiting())
        for side in (self.edge, self.cloud):
            for endpoint in side.endpoints if side else ():
                labels = (("side", endpoint.side), ("server", endpoint.address))
                yield "inflight", labels, float(endpoint.inflight)
                yield "breaker_open", labels, float(endpoint.breaker.state != "closed")
                for outcome, count in tuple(endpoint.outcomes.items()):
                    yield "attempts_total", (*labels, ("outcome", outcome)), float(count)
                yield "breaker_opened_total", labels, float(endpoint.breaker.opened)
