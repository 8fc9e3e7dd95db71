"""One question to one side: which server, how often, how long, and what counts as an answer.

No I/O: yields effects (see effects.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_builder.client.effects import Effect, Pause, Race, Send, Steps
from repo_builder.client.guards import RetryBudget, backoff
from repo_builder.client.metrics import Metrics
from repo_builder.client.options import Retry
from repo_builder.client.sides import Endpoint, Failure, Side

Build = Callable[[Endpoint, float], "Steps[Exchange]"]  # makes a request ready, in time

# Kinds of failure that repeating can cure; of these, the server has to work only for the second.
_FREE = ("unreachable", "absent")
_COSTLY = ("broken", "busy")


@dataclass
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
    """Asks sides, under one retry budget."""

    def __init__(
        self, retry: Retry, reserve: int, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._retry = retry
        self._budget = RetryBudget(retry.budget, float(reserve))
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
        self._budget.called()
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
                yield Pause(min(max(wait, 0.001) * random.uniform(1.0, 1.2), left))  # noqa: S311
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
            while kind in _COSTLY and not self._budget.take(clock()):
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
        clock = self._clock
        started = clock()
        send = Send(endpoint, exchange.method, exchange.body, max(0.0, deadline - started))
        effect: Effect = send
        rival: Endpoint | None = None
        if self._retry.hedge and repeatable and not exchange.drop and len(side.endpoints) > 1:
            after = side.hedge_after(model)
            if after is not None and after < send.timeout:
                rival = side.choose(started, avoid=endpoint)
                if rival is endpoint:
                    rival = None
                if rival:
                    second = Send(rival, send.method, send.body, max(0.0, send.timeout - after))
                    effect = Race(send, second, after)
        side.started(endpoint)
        if rival:
            side.started(rival)
        try:
            outcome = yield effect
        except BaseException:
            side.abandoned(endpoint)
            if rival:
                side.abandoned(rival)
            if exchange.drop:
                exchange.drop(True)
            raise
        seconds = clock() - started
        if rival is None:
            outcomes = [(endpoint, outcome)]
        else:
            outcomes = [(endpoint, outcome[0]), (rival, outcome[1])]
            if outcome[1] is not None:
                self._metrics.count("hedges_total", (("side", side.name),))
        answer: Any = None
        for asked, one in outcomes:
            answer = self._account(side, asked, model, one, seconds, answer)
        if isinstance(answer, Failure):
            if exchange.drop:
                exchange.drop(answer.kind not in ("unreachable", "rejected", "absent"))
            return answer
        return exchange.finish(answer)

    def _account(
        self, side: Side, endpoint: Endpoint, model: str, outcome: Any, seconds: float, best: Any
    ) -> Any:
        if outcome is None:
            side.abandoned(endpoint)
            return best
        if isinstance(outcome, Failure):
            side.failed(endpoint, outcome, self._clock())
            self._metrics.count(
                "attempts_total", (("side", side.name), ("outcome", outcome.kind))
            )
            return outcome if best is None else best
        side.answered(endpoint, model, seconds)
        self._metrics.count("attempts_total", (("side", side.name), ("outcome", "ok")))
        return outcome

