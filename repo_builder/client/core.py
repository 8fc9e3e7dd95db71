"""The whole of a call: ask the edge, see how sure it is, ask the cloud, merge.

No I/O: yields effects (see effects.py), so that the rules below hold for the synchronous and the
asynchronous client alike, and can be tested by a simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from repo_builder.client import wire
from repo_builder.client.asking import Asker, Exchange
from repo_builder.client.catalog import Catalog
from repo_builder.client.confidence import Floats
from repo_builder.client.effects import Enter, Steps
from repo_builder.client.errors import (
    ClientError,
    Closed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Overloaded,
    ServerFailed,
    Unavailable,
)
from repo_builder.client.fallback import SecondOpinion, merge
from repo_builder.client.guards import Gate
from repo_builder.client.metrics import Labels, Metrics
from repo_builder.client.model import Batch, Model, version_name, version_number
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
from repo_builder.client.result import Result, Source
from repo_builder.client.shm import Pool
from repo_builder.client.sides import Endpoint, Failure, Side

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """What one side answered: `served` is Triton's number of the version that did."""

    side: Side
    model: Model
    batch: Batch
    outputs: dict[str, Array]
    served: str


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
        self.catalog = Catalog(self._asker)
        self.opinion = SecondOpinion(settings.fallback, self.catalog, self.run, self.metrics, clock)
        self.shared = Pool(settings.shared_memory, self.metrics)
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
                call = _Call(self, model, version_number(version), started, timeout)
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

        return (
            yield from self._asker.ask(
                side,
                model.name,
                build,
                deadline,
                patient=patient,
                repeatable=model.repeatable,
            )
        )

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


class _Call:
    """What one call knows while it runs. Outputs have a row axis everywhere but in the Result."""

    def __init__(self, core: Core, name: str, version: str, started: float, timeout: float) -> None:
        self.core = core
        self.name = name
        self.version = version
        self.started = started
        self.timeout = timeout
        self.deadline = started + timeout
        self.timings: dict[str, float] = {}

    def run(self, inputs: Any) -> Steps[Result]:
        """Edge, then cloud where that fails, then the edge again for as long as there is time."""
        core, cloud = self.core, self.core.cloud
        if cloud is None:
            answer = yield from self._ask(core.edge, self.name, inputs, self.deadline, True)
            if isinstance(answer, Failure):
                raise self._error(core.edge, answer)
            return self._result(answer, ["edge"] * answer.batch.count)
        share = self.started + self.timeout * core.settings.fallback.edge_share
        answer = yield from self._ask(core.edge, self.name, inputs, share, False)
        if not isinstance(answer, Failure):
            return (yield from self._judge(answer, cloud))
        if answer.kind == "rejected":
            raise self._error(core.edge, answer)
        name = core.opinion.cloud_name(self.name, core.catalog.known(core.edge, self.name))
        other = yield from self._ask(cloud, name, inputs, self.deadline, False)
        if not isinstance(other, Failure):
            return self._result(other, ["cloud"] * other.batch.count)
        if other.kind == "absent" == answer.kind or "failed" in (answer.kind, other.kind):
            raise self._error(core.edge, answer, other)
        # Neither side answers now: wait for the nearer one as long as the caller would.
        again = yield from self._ask(core.edge, self.name, inputs, self.deadline, True)
        if isinstance(again, Failure):
            raise self._error(core.edge, again, other)
        return (yield from self._judge(again, cloud))

    def _ask(
        self, side: Side, name: str, inputs: Any, deadline: float, patient: bool
    ) -> Steps[Answer | Failure]:
        core, catalog = self.core, self.core.catalog
        begun = core.clock()
        version = self.version if side is core.edge else ""
        model = yield from catalog.model(side, name, version, deadline, patient)
        if isinstance(model, Failure):
            return model
        if side is core.cloud:
            inputs = core.opinion.cleared(inputs)
        try:
            batch = model.batch(inputs)
        except InvalidInput:
            # The server may have loaded another version since: look before blaming the caller.
            model = yield from catalog.refreshed(side, name, version, deadline)
            if isinstance(model, Failure):
                return model
            batch = model.batch(inputs)
        if side is core.cloud and (barred := core.opinion.barred(model, batch)):
            return barred
        asked = core.clock()
        self._stage("prepare", asked - begun)
        got = yield from core.run(side, model, batch, version, deadline, patient)
        self._stage(side.name, core.clock() - asked)
        if isinstance(got, Failure):
            if got.kind in ("absent", "rejected"):
                catalog.forget(side, name, version)
            return got
        outputs, served = got
        model = yield from catalog.confirmed(side, model, version, served, deadline)
        return Answer(side, model, batch, outputs, served)

    def _judge(self, answer: Answer, cloud: Side) -> Steps[Result]:
        """The edge has answered; the cloud is asked about what it is not sure of."""
        core = self.core
        sources: list[Source] = ["edge"] * answer.batch.count
        scores = core.opinion.scores(answer.model, answer.outputs)
        if scores is None:
            return self._result(answer, sources)
        unsure = core.opinion.unsure(answer.model, scores)
        if not len(unsure):
            return self._result(answer, sources, scores=scores)
        begun = core.clock()
        opinion = yield from core.opinion.ask(
            cloud, answer.model, answer.batch, unsure, answer.outputs, self.deadline
        )
        self._stage("cloud", core.clock() - begun)
        for row in unsure:
            sources[row] = "edge-unverified"
        for row in opinion.rows:
            sources[row] = "cloud"
        if len(opinion.rows):
            answer = replace(answer, outputs=merge(answer.outputs, opinion.rows, opinion.outputs))
        return self._result(answer, sources, opinion.version, opinion.why, scores)

    def _result(
        self,
        answer: Answer,
        sources: list[Source],
        cloud_version: str = "",
        why: str = "",
        scores: Floats | None = None,
    ) -> Result:
        outputs, batch, served = answer.outputs, answer.batch, version_name(answer.served)
        by_cloud = answer.side is self.core.cloud
        if batch.signature.single:
            outputs = {name: array[0] for name, array in outputs.items()}
        return Result(
            outputs=outputs,
            batch=None if batch.signature.single else batch.count,
            sources=sources,
            version="" if by_cloud else served,
            cloud_version=served if by_cloud else version_name(cloud_version),
            timings=self.timings,
            why_unverified=why,
            policy=answer.model.policy,
            label_names=answer.model.labels,
            scores=scores,
        )

    def _stage(self, name: str, seconds: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + seconds

    def _error(self, edge: Side, failure: Failure, other: Failure | None = None) -> ClientError:
        """One error that says what each side said."""
        said = f"edge ({', '.join(edge.servers.addresses)}): {failure}"
        kinds = {failure.kind}
        if other and self.core.cloud:
            said += f"; cloud ({', '.join(self.core.cloud.servers.addresses)}): {other}"
            kinds.add(other.kind)
        spent = self.core.clock() >= self.deadline - 0.001
        text = f"model '{self.name}': " + (f"no answer within {self.timeout:g} s; " * spent) + said
        if "rejected" in kinds:
            return InvalidInput(text)
        if kinds == {"absent"}:
            return ModelNotFound(text)
        if "late" in kinds and spent:
            return DeadlineExceeded(text)
        return ServerFailed(text) if kinds == {"failed"} else Unavailable(text)
