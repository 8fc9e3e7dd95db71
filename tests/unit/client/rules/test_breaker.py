"""The circuit breaker."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder.client.options import Breaker
from repo_builder.client.rules.breaker import CircuitBreaker


def test_a_breaker_opens_probes_and_closes():
    breaker = CircuitBreaker(Breaker(failures=3, cooldown=1.0, max_cooldown=4.0))
    for _ in range(2):
        breaker.failed(0.0)
    assert breaker.allow(0.0)
    breaker.failed(0.0)
    assert (breaker.state, breaker.allow(0.5)) == ("open", False)
    assert breaker.ready_at(0.5) <= 1.0
    assert breaker.allow(1.0), "one probe"
    assert not breaker.allow(1.0), "and no second"
    breaker.failed(1.1)
    assert not breaker.allow(2.0), "twice the wait"
    assert breaker.allow(3.2)
    breaker.succeeded()
    assert (breaker.state, breaker.allow(3.2), breaker.allow(3.2)) == ("closed", True, True)


def test_a_probe_that_is_cancelled_frees_its_place():
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=1.0))
    breaker.failed(0.0)
    assert breaker.allow(2.0)
    breaker.abandoned()
    assert breaker.allow(2.0)


def test_a_connection_that_is_back_lets_one_probe_through_at_once():
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=1.0))
    breaker.failed(0.0)
    assert not breaker.allow(0.1)
    breaker.reachable()
    assert breaker.allow(0.1), "the probe"
    assert not breaker.allow(0.1), "and no second"
    breaker.failed(0.2)
    assert not breaker.allow(0.3)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_an_open_breaker_always_opens_up_again(events):
    breaker = CircuitBreaker(Breaker(failures=2, cooldown=0.5, max_cooldown=2.0))
    now = 0.0
    for good, wait in events:
        now += wait
        if breaker.allow(now):
            breaker.succeeded() if good else breaker.failed(now)
        assert breaker.ready_at(now) <= now + 2.0
    assert breaker.allow(now + 2.0)
