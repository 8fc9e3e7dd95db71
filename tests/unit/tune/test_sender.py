"""Latencies in slices, and when the client was the limit."""

from __future__ import annotations

import pytest

from repo_builder.base.errors import ServeError
from repo_builder.client.load import Load
from repo_builder.tune.send import sliced
from repo_builder.tune.sender import Order, Sender, Sent


def test_latencies_lie_in_the_slice_of_their_time() -> None:
    load = Load([0.1, 0.2, 0.3, 0.4], whens=[0.0, 0.99, 1.0, 2.01], seconds=2.5)
    first, second = sliced(load, 2.0, 2)
    assert (first.count, second.count) == (2, 1)
    assert second.total_s == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (Sent(sent=100, seconds=1, busy=0.5, late=3), ""),
        (Sent(sent=100, seconds=1, busy=0.95), "the client is the limit: it was busy 95%"),
        (Sent(sent=100, seconds=1, busy=0.6, late=40), "60% of the time, 40% of the requests"),
        (Sent(refused="no such model"), ""),
    ],
)
def test_the_client_says_when_it_is_the_limit(sent: Sent, limit: str) -> None:
    assert limit in sent.limit
    assert bool(limit) == bool(sent.limit)


def test_nobody_at_the_address_is_told() -> None:
    with Sender() as sender, pytest.raises(ServeError, match="the process that makes load ended"):
        sender.send(Order("127.0.0.1:9", "net", "/does/not/exist.npz", None, 1.0))
