"""What `optimize.auto` asks for, resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SearchObjective = Literal["size", "latency", "energy"]


@dataclass(frozen=True)
class Auto:
    """A search for the variant that is best by `objective` of those that keep the gates.

    It ends after `budget_s` seconds with the best so far.
    """

    objective: SearchObjective = "size"
    budget_s: float = 600.0
