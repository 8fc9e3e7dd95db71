"""One call: the edge, how sure it is, the cloud for the rows it is not sure of, and both merged.

No I/O but the cache's: yields effects (see rules/effects.py), so that the rules below hold for the
synchronous and the asynchronous client alike, and can be tested by a simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.calls.context import Context
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
from repo_builder.client.models.confidence import Floats
from repo_builder.client.models.model import Model, version_name
from repo_builder.client.models.tensors import Batch
from repo_builder.client.result import Result, Source
from repo_builder.client.rules.effects import Effects
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.merge import merge, stack
from repo_builder.client.rules.routing import Upstream

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]


@dataclass(slots=True)  # not frozen: see rules/effects.py
class Answer:
    """What one side answered. `served` is Triton's number of the version that did; `fresh` are the
    rows that it was asked, None for all: the others came from the cache."""

    upstream: Upstream
    model: Model
    batch: Batch
    outputs: dict[str, Array]
    served: str
    fresh: Rows | None = None


class Call:
    """What one call knows while it runs. Outputs have a row axis everywhere but in the Result."""

    def __init__(
        self, context: Context, name: str, version: str, started: float, timeout: float
    ) -> None:
        self.context = context
        self.name = name
        self.version = version
        self.started = started
        self.timeout = timeout
        self.deadline = started + timeout
        self.timings: dict[str, float] = {}

    def run(self, inputs: Any) -> Effects[Result]:
        """Edge, then cloud where that fails, then the edge again for as long as there is time."""
        context, cloud = self.context, self.context.cloud
        if cloud is None:
            patient = context.settings.retry.patient
            answer = yield from self._query(context.edge, self.name, inputs, self.deadline, patient)
            if isinstance(answer, Failure):
                raise self._error(context.edge, answer)
            return self._result(answer, self._sources(answer))
        share = self.started + self.timeout * context.settings.fallback.edge_share
        answer = yield from self._query(context.edge, self.name, inputs, share, False)
        if not isinstance(answer, Failure):
            return (yield from self._with_fallback(answer, cloud))
        if answer.kind == "rejected":
            raise self._error(context.edge, answer)
        described = context.catalog.known(context.edge, self.name, self.version)
        name = context.fallback.cloud_name(self.name, described)
        other = yield from self._query(cloud, name, inputs, self.deadline, False)
        if not isinstance(other, Failure):
            return self._result(other, ["cloud"] * other.batch.count)
        hopeless = other.kind == "absent" == answer.kind or "failed" in (answer.kind, other.kind)
        # Nothing listens on either side, which no waiting cures.
        refused = answer.kind == other.kind == "unreachable"
        if hopeless or refused or not context.settings.retry.patient:
            raise self._error(context.edge, answer, other)
        # Neither side answers now: wait for the nearer one as long as the caller would.
        again = yield from self._query(context.edge, self.name, inputs, self.deadline, True)
        if isinstance(again, Failure):
            raise self._error(context.edge, again, other)
        return (yield from self._with_fallback(again, cloud))

    def _query(
        self, upstream: Upstream, name: str, inputs: Any, deadline: float, patient: bool
    ) -> Effects[Answer | Failure]:
        context, catalog = self.context, self.context.catalog
        begun = context.clock()
        version = self.version if upstream is context.edge else ""
        model = yield from catalog.model(upstream, name, version, deadline, patient)
        if isinstance(model, Failure):
            return model
        if upstream is context.cloud:
            inputs = context.fallback.without_private(inputs)
        try:
            batch = model.batch(inputs)
        except InvalidInput:
            # The server may have loaded another version since: look before blaming the caller.
            model = yield from catalog.refreshed(upstream, name, version, deadline)
            if isinstance(model, Failure):
                return model
            batch = model.batch(inputs)
        if upstream is context.cloud and (refusal := context.fallback.refusal(model, batch)):
            return refusal
        asked = context.clock()
        self._add_timing("prepare", asked - begun)
        cached = self._look_up(upstream, model, batch, version)
        if isinstance(cached, Answer):
            return cached
        part, missing = batch, None
        if cached is not None:
            missing = np.flatnonzero([row is None for row in cached])
            part = model.batch(batch.rows_of(missing))
        got = yield from context.run(upstream, model, part, version, deadline, patient)
        self._add_timing(upstream.name, context.clock() - asked)
        if isinstance(got, Failure):
            if got.kind in ("absent", "rejected"):
                catalog.invalidate(upstream, name, version)
            return got
        outputs, served = got
        model = yield from catalog.confirmed(upstream, model, version, served, deadline)
        model.check_answer(outputs)
        if cached is not None and missing is not None:
            for i, row in enumerate(missing):
                cached[row] = {key: array[i] for key, array in outputs.items()}
            outputs = stack(cached)
        return Answer(upstream, model, batch, outputs, served, missing)

    def _look_up(
        self, upstream: Upstream, model: Model, batch: Batch, version: str
    ) -> Answer | list[dict[str, Array] | None] | None:
        """The whole answer from the cache, or what it has of the rows, or None for nothing."""
        context = self.context
        if context.cache is None or upstream is not context.edge:
            return None
        served = context.catalog.served(upstream, model.name, version)
        if not served:
            return None
        begun = context.clock()
        scope = self._scope(model, served)
        found = context.cache.find(scope, context.cache.keys(scope, batch))
        self._add_timing("cache", context.clock() - begun)
        if all(row is not None for row in found):
            if all(len({row[k].shape for row in found if row}) == 1 for k in found[0] or ()):
                nothing: Rows = np.zeros(0, np.intp)
                return Answer(upstream, model, batch, stack(found), served, nothing)
            return None
        # Rows of outputs that vary in size may not fit each other.
        static = all(-1 not in tensor.dims for tensor in model.outputs)
        return found if static and any(row is not None for row in found) else None

    def _scope(self, model: Model, served: str) -> str:
        """Whose answers can stand in for this call's: a cloud corrects what an edge alone says."""
        return f"{model.name} {served} {'cloud' if self.context.cloud else 'edge'}"

    def _sources(self, answer: Answer) -> list[Source]:
        if answer.fresh is None:
            return ["edge"] * answer.batch.count
        sources: list[Source] = ["cache"] * answer.batch.count
        for row in answer.fresh:
            sources[row] = "edge"
        return sources

    def _with_fallback(self, answer: Answer, cloud: Upstream) -> Effects[Result]:
        """The edge has answered; the cloud is asked about what it is not sure of."""
        context = self.context
        context.fallback.remember(answer.model)
        sources = self._sources(answer)
        scores = context.fallback.scores(answer.model, answer.outputs)
        if scores is None:
            return self._result(answer, sources)
        unsure = context.fallback.unsure(answer.model, scores)
        if answer.fresh is not None:
            unsure = unsure[np.isin(unsure, answer.fresh)]
        if not len(unsure):
            return self._result(answer, sources, scores=scores)
        begun = context.clock()
        second = yield from context.fallback.request(
            cloud, answer.model, answer.batch, unsure, answer.outputs, self.deadline
        )
        self._add_timing("cloud", context.clock() - begun)
        for row in unsure:
            sources[row] = "edge-unverified"
        for row in second.rows:
            sources[row] = "cloud"
        if len(second.rows):
            answer = replace(answer, outputs=merge(answer.outputs, second.rows, second.outputs))
        return self._result(answer, sources, second.version, second.why, scores)

    def _result(
        self,
        answer: Answer,
        sources: list[Source],
        cloud_version: str = "",
        why: str = "",
        scores: Floats | None = None,
    ) -> Result:
        outputs, batch, served = answer.outputs, answer.batch, version_name(answer.served)
        by_cloud = answer.upstream is self.context.cloud
        if self.context.cache is not None and not by_cloud:
            self._store(answer, sources)
        if self.context.spool is not None and self.context.spool.wants(self.name):
            self._collect(answer, sources, scores)
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

    def _store(self, answer: Answer, sources: Sequence[Source]) -> None:
        cache = self.context.cache
        if cache is None:
            return
        scope = self._scope(answer.model, answer.served)
        keys = cache.keys(scope, answer.batch)
        for row, source in enumerate(sources):
            if source in ("edge", "cloud"):
                cache.store(scope, keys[row], {k: a[row] for k, a in answer.outputs.items()})

    def _collect(self, answer: Answer, sources: Sequence[Source], scores: Floats | None) -> None:
        from repo_builder.client.sample import Sample

        context, spool = self.context, self.context.spool
        if spool is None:
            return
        if scores is None:
            scores = context.fallback.scores(answer.model, answer.outputs)
        unsure = (
            set() if scores is None else set(context.fallback.unsure(answer.model, scores).tolist())
        )
        for row, source in enumerate(sources):
            if source == "cache" or not (row in unsure or spool.audited()):
                continue
            given = answer.batch.rows_of(np.array([row]))
            sample = Sample(
                model=self.name,
                version=version_name(answer.served),
                source=source,
                reason="unsure" if row in unsure else "audit",
                confidence=None if scores is None else float(scores[row]),
                # Copies: the application may go on writing to its own arrays.
                inputs={name: array.copy() for name, array in given.items()},
                outputs={name: array[row].copy() for name, array in answer.outputs.items()},
                share=1.0 if row in unsure else spool.share,
            )
            spool.offer(sample)

    def _add_timing(self, name: str, seconds: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + seconds

    def _error(self, edge: Upstream, failure: Failure, other: Failure | None = None) -> ClientError:
        """One error that says what each side said."""
        said = f"edge ({', '.join(edge.servers.addresses)}): {failure}"
        kinds = {failure.kind}
        if other and self.context.cloud:
            said += f"; cloud ({', '.join(self.context.cloud.servers.addresses)}): {other}"
            kinds.add(other.kind)
        spent = self.context.clock() >= self.deadline - 0.001
        text = f"model '{self.name}': " + (f"no answer within {self.timeout:g} s; " * spent) + said
        if self.context.closed:
            return Closed(f"the client was closed; {text}")
        if "rejected" in kinds:
            return InvalidInput(text)
        if kinds == {"unreachable"}:
            text += (
                "; is a Triton running there? Start it (repo-builder serve), or mend the address"
            )
        if kinds == {"absent"}:
            return ModelNotFound(text)
        if "late" in kinds and spent:
            return DeadlineExceeded(text)
        if "busy" in kinds and kinds <= {"busy", "unreachable", "broken"}:
            return Overloaded(text)
        return ServerFailed(text) if kinds == {"failed"} else Unavailable(text)
