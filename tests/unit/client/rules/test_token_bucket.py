"""The token bucket."""

from __future__ import annotations

import pytest

from repo_builder.client.rules.token_bucket import TokenBucket


def test_a_bucket_fills_with_time_and_is_capped():
    bucket = TokenBucket(rate=2.0, burst=4.0)
    bucket.take(4.0, 0.0)
    assert bucket.available(1.0) == pytest.approx(2.0)
    assert bucket.available(100.0) == 4.0
    assert bucket.available(50.0) == 4.0, "a clock that went back takes nothing away"
