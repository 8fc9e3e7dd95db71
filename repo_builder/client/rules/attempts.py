"""One question to one side: which server, how often, how long, and what counts as an answer.

No I/O: yields effects (see effects.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_builder.client.metrics import Metrics
from repo_builder.client.options import Retry
from repo_builder.client.rules.effects import Pause, Race, Send, Steps
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.retry_budget import RetryBudget, backoff
from repo_builder.client.rules.routing import Endpoint, Side

Build = Callable[[Endpoint, float], "Steps[Exchange]"]  # makes a request ready, in time

# Kinds of failure that repeating can cure; of these, the server has to work only for the second.
_FREE = ("unreachable", "absent")
_COSTLY = ("broken", "busy")


@dataclass(slots=True)
class Exchange:
    """One request made ready for one server, and what to do with it afterwards.

    `finish` turns the response into what the caller wants; `drop` says that there was none, and
    whether the server may still be working on it. `again` says whether a failure was only a matter
    of how the request was made (and the next one will be made otherwise).
    """

    method: str
    body: bytes
    finish: Callable[[Any], Any]
    drop: Callable[[bool], None] | None = None
    again: Callable[[Failure], bool] | None = None


class Asker:
    """Asks sides, each under a retry budget of its own."""

    def __init__(
        self, retry: Retry, reserve: int, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._retry = retry
        self._budgets = {
            name: RetryBudget(retry.budget, float(reserve)) for name in ("edge", "cloud")
        }
        self._metrics = metrics
        self._clock = clock

    def ask(
        self,
        side: Side,
        model: str,
        build: Build,
        deadline: float,
        *,
        patient: bool,
        repeatable: bool = True,
        known: bool = True,
    ) -> Steps[Any]:
        """The finished answer, or the last Failure.

        `patient`: there is nobody else to ask, so go on until the deadline. `repeatable`: asking
        twice does no harm. `known`: the side has had this model, so its absence should pass.
        """
        retry, clock = self._retry, self._clock
        budget = self._budgets[side.name]
        budget.called()
        last: Failure | None = None
        endpoint: Endpoint | None = None
        attempt = 0
        while True:
            now = clock()
            left = deadline - now
            if left <= 0:
                return last or Failure("DEADLINE_EXCEEDED", "no time was left to ask")
            endpoint = side.choose(now, avoid=endpoint)
            if endpoint is None:
                if not patient:
                    return last or Failure("UNAVAILABLE", "failed to connect lately; left alone")
                wait = side.ready_at(now) - now
                # Not longer than a probe may take: when it succeeds, all may go on.
                yield Pause(min(max(wait, 0.001), 0.05, left))
                continue
            attempt += 1
            if attempt > 1:
                self._metrics.count("retries_total", (("side", side.name),))
            try:
                exchange = yield from build(endpoint, left)
            except BaseException:
                endpoint.breaker.abandoned()
                raise
            outcome = yield from self._send(side, endpoint, model, exchange, deadline, repeatable)
            if not isinstance(outcome, Failure):
                return outcome
            last = outcome
            if exchange.again and exchange.again(outcome):
                continue
            kind = outcome.kind
            if kind not in _FREE + _COSTLY or (kind == "absent" and not known):
                return outcome
            if not repeatable and kind not in _FREE:
                return outcome
            if not patient and attempt >= retry.attempts:
                return outcome
            while kind in _COSTLY and not budget.take(clock()):
                if not patient or clock() >= deadline:
                    return outcome
                yield Pause(min(retry.max_delay, max(0.0, deadline - clock())))
            delay = backoff(attempt, retry.delay, retry.max_delay, random.random())  # noqa: S311
            yield Pause(min(delay, max(0.0, deadline - clock())))

    def _send(
        self,
        side: Side,
        endpoint: Endpoint,
        model: str,
        exchange: Exchange,
        deadline: float,
        repeatable: bool,
    ) -> Steps[Any]:
        started = self._clock()
        send = Send(endpoint, exchange.method, exchange.body, max(0.0, deadline - started))
        rival = None
        if repeatable and not exchange.drop and self._retry.hedge and len(side.endpoints) > 1:
            rival, after = self._rival(side, endpoint, model, started, send.timeout)
        side.started(endpoint)
        try:
            if rival is None:
                outcome = yield send
            else:
                side.started(rival)
                second = Send(rival, send.method, send.body, send.timeout - after)
                outcome, other = yield Race(send, second, after)
        except BaseException:
            side.abandoned(endpoint)
            if rival:
                side.abandoned(rival)
            if exchange.drop:
                exchange.drop(True)
            raise
        seconds = self._clock() - started
        self._account(side, endpoint, model, outcome, seconds)
        if rival:
            self._account(side, rival, model, other, seconds)
            self._metrics.count("hedges_total", (("side", side.name),), float(other is not None))
            if outcome is None or (isinstance(outcome, Failure) and other is not None):
                outcome = other
        if isinstance(outcome, Failure):
            if exchange.drop:
                exchange.drop(outcome.kind not in ("unreachable", "rejected", "absent"))
            return outcome
        return exchange.finish(outcome)

    def _rival(
        self, side: Side, endpoint: Endpoint, model: str, now: float, timeout: float
    ) -> tuple[Endpoint | None, float]:
        """Whom to ask too if `endpoint` is slow, and after how many seconds."""
        after = side.hedge_after(model)
        if after is None or after >= timeout:
            return None, 0.0
        rival = side.choose(now, avoid=endpoint)
        return (None if rival is endpoint else rival), after

    def _account(
        self, side: Side, endpoint: Endpoint, model: str, outcome: Any, seconds: float
    ) -> None:
        if outcome is None:
            side.abandoned(endpoint)
        elif isinstance(outcome, Failure):
            side.failed(endpoint, outcome, self._clock())
        else:
            side.answered(endpoint, model, seconds)
