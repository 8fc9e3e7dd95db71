"""The token bucket."""

from __future__ import annotations

import pytest

from repo_builder.client.rules.token_bucket import Allowance


def test_an_allowance_fills_with_time_and_is_capped():
    allowance = Allowance(rate=2.0, burst=4.0)
    allowance.take(4.0, 0.0)
    assert allowance.available(1.0) == pytest.approx(2.0)
    assert allowance.available(100.0) == 4.0
    assert allowance.available(50.0) == 4.0, "a clock that went back takes nothing away"
