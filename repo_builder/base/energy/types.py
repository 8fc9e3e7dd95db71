"""What a reader of power or energy is, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Unit = Literal["J", "W"]
"""J: a counter of joules since some start. W: watts at this moment, to be integrated over time."""

Covers = Literal["machine", "package", "memory", "board", "rail", "gpu", "battery", "sensor"]
"""What a figure is of. `board` is all that enters a module or board, `rail` a part of it, `machine`
a platform with all in it, `package` a processor with cores and caches; of a `sensor` nobody says.
"""


class CannotRead(Exception):
    """A source gives no figure now; the text says why, and what helps."""


@dataclass(frozen=True)
class About:
    """What a source reads: by which `way`, under which `name`, and how finely, in its unit."""

    way: str
    name: str
    covers: Covers
    unit: Unit
    resolution: float

    def __str__(self) -> str:
        return f"{self.way} {self.name} ({self.covers}, {self.unit}, steps of {self.resolution:g})"


@dataclass(frozen=True)
class Missing:
    """A way to read that gives nothing here, and why, in words."""

    way: str
    why: str

    def __str__(self) -> str:
        return f"{self.way}: {self.why}"


class Source(Protocol):
    """Something to read power or energy from."""

    @property
    def about(self) -> About:
        """What it reads."""
        ...

    def read(self) -> float:
        """Joules so far, or watts now. CannotRead where there is no figure."""
        ...


MOST_WATTS = {
    "machine": 5000.0,
    "package": 1500.0,
    "memory": 500.0,
    "gpu": 1500.0,
    "battery": 500.0,
}
"""Watts beyond which a figure is absurd, by what it covers."""

MOST_OTHER_WATTS = 500.0


def absurd(about: About, watts: float) -> str:
    """Why so many watts are no figure of this source; "" where they may be."""
    most = MOST_WATTS.get(about.covers, MOST_OTHER_WATTS)
    if 0 <= watts <= most:
        return ""
    return f"{about.name}: {watts:.4g} W is absurd for a {about.covers} (0 to {most:g})"
