"""What the core asks a driver to do: it cannot send or wait itself.

The core is a generator that yields one of these effects and is sent its outcome; the synchronous
and the asynchronous client differ only in how they carry them out. They are not frozen: one at
least is made for every call, and a frozen one costs thrice as much.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from repo_builder.client.rules.bulkhead import Bulkhead
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint


@dataclass(slots=True)
class Send:
    """One request. Outcome: the response message, or a Failure."""

    endpoint: Endpoint
    method: str
    body: bytes
    timeout: float


@dataclass(slots=True)
class Hedge:
    """Send `first`; after `after` seconds without an answer, `second` too.

    Outcome: (outcome of first, outcome of second), None for what was not sent or was cancelled
    because the other answered well.
    """

    first: Send
    second: Send
    after: float


@dataclass(slots=True)
class Sleep:
    """Wait. Outcome: None."""

    seconds: float


@dataclass(slots=True)
class Acquire:
    """Wait for a place in the bulkhead. Outcome: True, False where the time ran out first, or
    None where the queue was full."""

    bulkhead: Bulkhead
    timeout: float


Effect = Send | Hedge | Sleep | Acquire
Outcome = Any
T = TypeVar("T")
Effects = Generator[Effect, Outcome, T]

__all__ = ["Acquire", "Effect", "Effects", "Failure", "Hedge", "Send", "Sleep"]
