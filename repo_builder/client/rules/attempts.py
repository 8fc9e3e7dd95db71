"""One request to one side: which endpoint, how many attempts, how long, and hedged or not.

No I/O: yields effects (see effects.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_builder.client.metrics import Metrics
from repo_builder.client.options import Retry
from repo_builder.client.rules.effects import Effects, Hedge, Send, Sleep
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.retry_budget import RetryBudget, backoff
from repo_builder.client.rules.routing import Endpoint, Upstream

Prepare = Callable[[Endpoint, float], "Effects[PreparedRequest]"]  # endpoint, seconds left

# Kinds of failure that a retry can cure; only for the second has the server worked.
_UNPROCESSED = ("unreachable", "absent")
_PROCESSED = ("broken", "busy")


@dataclass(slots=True)
class PreparedRequest:
    """One request made ready for one server, and what to do with it afterwards.

    `parse` turns the response into what the caller wants; `discard` says that there was none, and
    whether the server may still be working on it. `outdated` says whether a failure was only a
    matter of how the request was prepared (and the next one will be prepared otherwise).
    """

    method: str
    body: bytes
    parse: Callable[[Any], Any]
    discard: Callable[[bool], None] | None = None
    outdated: Callable[[Failure], bool] | None = None


class Retrier:
    """Sends requests, with retries and hedges; each upstream has a retry budget of its own."""

    def __init__(
        self, retry: Retry, reserve: int, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._retry = retry
        self._budgets = {
            name: RetryBudget(retry.budget, float(reserve)) for name in ("edge", "cloud")
        }
        self._metrics = metrics
        self._clock = clock

    def request(
        self,
        upstream: Upstream,
        model: str,
        prepare: Prepare,
        deadline: float,
        *,
        patient: bool,
        idempotent: bool = True,
        expected: bool = True,
    ) -> Effects[Any]:
        """The finished answer, or the last Failure.

        `patient`: there is no other side, so go on until the deadline. `idempotent`: to send it
        twice does no harm. `expected`: the side has had this model, so its absence should pass.
        """
        retry, clock = self._retry, self._clock
        budget = self._budgets[upstream.name]
        budget.called()
        last: Failure | None = None
        endpoint: Endpoint | None = None
        attempt = 0
        while True:
            now = clock()
            left = deadline - now
            if left <= 0:
                return last or Failure("DEADLINE_EXCEEDED", "no time was left to ask")
            endpoint = upstream.choose(now, avoid=endpoint)
            if endpoint is None:
                if not patient:
                    return last or Failure("UNAVAILABLE", "failed to connect lately; left alone")
                wait = upstream.ready_at(now) - now
                # Not longer than a probe may take: when it succeeds, all may go on.
                yield Sleep(min(max(wait, 0.001), 0.05, left))
                continue
            attempt += 1
            if attempt > 1:
                self._metrics.count("retries_total", (("side", upstream.name),))
            try:
                prepared = yield from prepare(endpoint, left)
            except BaseException:
                endpoint.breaker.abandoned()
                raise
            outcome = yield from self._send(
                upstream, endpoint, model, prepared, deadline, idempotent
            )
            if not isinstance(outcome, Failure):
                return outcome
            last = outcome
            if prepared.outdated and prepared.outdated(outcome):
                continue
            kind = outcome.kind
            if kind not in _UNPROCESSED + _PROCESSED or (kind == "absent" and not expected):
                return outcome
            if not idempotent and kind not in _UNPROCESSED:
                return outcome
            if not patient and attempt >= retry.attempts:
                return outcome
            while kind in _PROCESSED and not budget.take(clock()):
                if not patient or clock() >= deadline:
                    return outcome
                yield Sleep(min(retry.max_delay, max(0.0, deadline - clock())))
            delay = backoff(attempt, retry.delay, retry.max_delay, random.random())  # noqa: S311
            yield Sleep(min(delay, max(0.0, deadline - clock())))

    def _send(
        self,
        upstream: Upstream,
        endpoint: Endpoint,
        model: str,
        prepared: PreparedRequest,
        deadline: float,
        idempotent: bool,
    ) -> Effects[Any]:
        started = self._clock()
        send = Send(endpoint, prepared.method, prepared.body, max(0.0, deadline - started))
        backup = None
        may_hedge = idempotent and not prepared.discard and self._retry.hedge
        if may_hedge and len(upstream.endpoints) > 1:
            backup, after = self._backup(upstream, endpoint, model, started, send.timeout)
        upstream.started(endpoint)
        try:
            if backup is None:
                outcome = yield send
            else:
                upstream.started(backup)
                second = Send(backup, send.method, send.body, send.timeout - after)
                outcome, other = yield Hedge(send, second, after)
        except BaseException:
            upstream.abandoned(endpoint)
            if backup:
                upstream.abandoned(backup)
            if prepared.discard:
                prepared.discard(True)
            raise
        seconds = self._clock() - started
        self._record(upstream, endpoint, model, outcome, seconds)
        if backup:
            self._record(upstream, backup, model, other, seconds)
            self._metrics.count(
                "hedges_total", (("side", upstream.name),), float(other is not None)
            )
            if outcome is None or (isinstance(outcome, Failure) and other is not None):
                outcome = other
        if isinstance(outcome, Failure):
            if prepared.discard:
                prepared.discard(outcome.kind not in ("unreachable", "rejected", "absent"))
            return outcome
        return prepared.parse(outcome)

    def _backup(
        self, upstream: Upstream, endpoint: Endpoint, model: str, now: float, timeout: float
    ) -> tuple[Endpoint | None, float]:
        """The endpoint to send to as well if `endpoint` is slow, and after how many seconds."""
        after = upstream.hedge_after(model)
        if after is None or after >= timeout:
            return None, 0.0
        backup = upstream.choose(now, avoid=endpoint)
        return (None if backup is endpoint else backup), after

    def _record(
        self, upstream: Upstream, endpoint: Endpoint, model: str, outcome: Any, seconds: float
    ) -> None:
        if outcome is None:
            upstream.abandoned(endpoint)
        elif isinstance(outcome, Failure):
            upstream.failed(endpoint, outcome, self._clock())
        else:
            upstream.answered(endpoint, model, seconds)
