"""What the core asks of a driver: the only things it cannot do itself are to send and to wait.

The core is a generator that yields one of these and is sent the outcome; the synchronous and the
asynchronous client differ only in how they carry them out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from repo_builder.client.rules.bulkhead import Gate
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint


@dataclass(slots=True)  # not frozen: one is made per call, and a frozen one costs thrice as much
class Send:
    """One request. Outcome: the response message, or a Failure."""

    endpoint: Endpoint
    method: str
    body: bytes
    timeout: float


@dataclass(frozen=True)
class Race:
    """Send `first`; after `after` seconds without an answer, `second` too.

    Outcome: (outcome of first, outcome of second), None for what was not sent or was cancelled
    because the other answered well.
    """

    first: Send
    second: Send
    after: float


@dataclass(frozen=True)
class Pause:
    """Wait. Outcome: None."""

    seconds: float


@dataclass(frozen=True)
class Enter:
    """Wait for a place behind the gate. Outcome: True, False where the time ran out first, or
    None where the queue was full."""

    gate: Gate
    timeout: float


Effect = Send | Race | Pause | Enter
Outcome = Any
T = TypeVar("T")
Steps = Generator[Effect, Outcome, T]

__all__ = ["Effect", "Enter", "Failure", "Pause", "Race", "Send", "Steps"]
