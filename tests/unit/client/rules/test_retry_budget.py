"""The retry budget and its delays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder.client.rules.retry_budget import RetryBudget, backoff


@given(calls=st.lists(st.integers(0, 5), max_size=300), share=st.floats(0.0, 0.5))
@settings(max_examples=100, deadline=None)
def test_repeats_never_exceed_share_reserve_and_trickle(calls, share):
    budget = RetryBudget(share, reserve=5.0)
    taken = 0
    for number, wanted in enumerate(calls):
        budget.called()
        taken += sum(budget.take(number * 0.1) for _ in range(wanted))
    assert taken <= 5 + share * len(calls) + 0.1 * len(calls) + 1


def test_backoff_is_jittered_and_bounded():
    assert backoff(1, 0.02, 0.5, 0.5) == pytest.approx(0.01)
    assert backoff(3, 0.02, 0.5, 0.999) == pytest.approx(0.08, rel=0.01)
    assert backoff(1000, 0.02, 0.5, 0.999) <= 0.5
