"""What gRPC's errors mean."""

from __future__ import annotations

import pytest

from repo_builder.client.rules.failure import Failure


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", "unreachable"),
        ("UNAVAILABLE", "DNS resolution failed for x", "unreachable"),
        ("UNAVAILABLE", "Socket closed", "broken"),
        ("UNAVAILABLE", "Request for unknown model: 'm' has no available versions", "absent"),
        ("UNAVAILABLE", "Exceeds maximum queue size", "busy"),
        ("UNAVAILABLE", "Request timeout expired", "late"),
        ("UNKNOWN", "Stream removed", "broken"),
        ("INTERNAL", "RST_STREAM", "broken"),
        ("INTERNAL", "it broke", "failed"),
        ("NOT_FOUND", "x", "absent"),
        ("INVALID_ARGUMENT", "x", "rejected"),
        ("DEADLINE_EXCEEDED", "x", "late"),
    ],
)
def test_failures_are_told_apart(status, details, kind):
    assert Failure(status, details).kind == kind
