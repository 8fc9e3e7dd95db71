"""What all calls of one client share: its servers, limits, stores and figures.

No I/O: yields effects (see rules/effects.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from repo_builder.client.calls.catalog import Catalog
from repo_builder.client.calls.fallback import CloudFallback
from repo_builder.client.calls.parts import in_parts
from repo_builder.client.metrics import Labels, Metrics
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Batch
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
from repo_builder.client.rules.attempts import PreparedRequest, Retrier
from repo_builder.client.rules.bulkhead import Bulkhead
from repo_builder.client.rules.effects import Effects
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint, Upstream
from repo_builder.client.transport import wire
from repo_builder.client.transport.shared_memory import RegionPool

if TYPE_CHECKING:
    from repo_builder.client.local.cache import ResponseCache
    from repo_builder.client.local.spool import Spool

Array = npt.NDArray[Any]


@dataclass(slots=True)  # not frozen: every start would pay for it
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


class Context:
    """What one client's calls share; thread-safe."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics()
        self.closed = False
        self.edge = Upstream("edge", settings.edge, settings.breaker)
        self.cloud = Upstream("cloud", settings.cloud, settings.breaker) if settings.cloud else None
        limits = settings.limits
        self.bulkhead = Bulkhead(limits.concurrency, limits.queue)
        self._retrier = Retrier(settings.retry, limits.concurrency, self.metrics, clock)
        self.catalog = Catalog(self._retrier, clock)
        self.fallback = CloudFallback(
            settings.fallback, self.catalog, self.run, self.metrics, clock
        )
        self.regions = RegionPool(settings.shared_memory, self.metrics, clock)
        self.cache: ResponseCache | None = None
        self.spool: Spool | None = None
        # Imported only where wanted: SQLite and the like cost every start a few milliseconds.
        if settings.cache is not None:
            from repo_builder.client.local.cache import ResponseCache

            self.cache = ResponseCache(settings.cache, self.metrics)
        if settings.collector is not None:
            from repo_builder.client.local.spool import Spool

            self.spool = Spool(settings.collector, self.metrics)
        self.metrics.gauges(self._gauges)

    def run(
        self,
        upstream: Upstream,
        model: Model,
        batch: Batch,
        version: str,
        deadline: float,
        patient: bool,
    ) -> Effects[tuple[dict[str, Array], str] | Failure]:
        """Have `upstream` run `model`: the outputs, and the number of the version that answered.

        A batch that is too large for one request travels in parts, one after the other.
        """

        def ask(part: Batch, of: str) -> Effects[tuple[dict[str, Array], str] | Failure]:
            return self._request(upstream, model, part, of, deadline, patient)

        if 0 < model.max_rows < batch.count:
            return (yield from in_parts(model, batch, version, ask))
        return (yield from ask(batch, version))

    def _request(
        self,
        upstream: Upstream,
        model: Model,
        batch: Batch,
        version: str,
        deadline: float,
        patient: bool,
    ) -> Effects[tuple[dict[str, Array], str] | Failure]:
        """As `run`, in one request."""
        regions = self.regions

        def parse(response: Any) -> tuple[dict[str, Array], str]:
            outputs = wire.decode_outputs(model.name, response)
            return wire.with_row_axis(model.name, outputs, batch.signature.rows), str(
                response.model_version
            )

        def prepare(endpoint: Endpoint, left: float) -> Effects[PreparedRequest]:
            if regions.accepts(endpoint, batch):
                prepared = yield from regions.prepare(endpoint, model, version, batch, left)
                if prepared is not None:
                    return prepared
            body = wire.infer_request(model.name, version, batch, left)
            return PreparedRequest("ModelInfer", body, parse)

        answer: tuple[dict[str, Array], str] | Failure = yield from self._retrier.request(
            upstream,
            model.name,
            prepare,
            deadline,
            patient=patient,
            idempotent=model.repeatable,
        )
        return answer

    def _gauges(self) -> Iterator[tuple[str, Labels, float]]:
        yield "queue", (), float(self.bulkhead.queued())
        for upstream in (self.edge, self.cloud):
            for endpoint in upstream.endpoints if upstream else ():
                labels = (("side", endpoint.side), ("server", endpoint.address))
                yield "inflight", labels, float(endpoint.inflight)
                yield "breaker_open", labels, float(endpoint.breaker.state != "closed")
                for outcome, count in tuple(endpoint.outcomes.items()):
                    yield "attempts_total", (*labels, ("outcome", outcome)), float(count)
                yield "breaker_opened_total", labels, float(endpoint.breaker.opened)
