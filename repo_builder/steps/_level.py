"""How far a compiled model was verified, in one of four words that never say more than is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal["executed", "simulated", "compiled", "prepared"]


@dataclass(frozen=True)
class Level:
    """A level and the sentence that says what was done for it, and what was not.

    `executed`: ran in the runtime that serves it. `simulated`: ran in its vendor's simulator.
    `compiled`: the vendor's compiler accepted it. `prepared`: waits for the hardware.
    """

    name: Name
    reason: str
