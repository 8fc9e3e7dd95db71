"""What the processors of this machine spend, where Linux counts it and lets it be read.

The counters are those of powercap (RAPL of Intel and AMD): one for each package, with all its cores
and caches, and whatever else runs on them. https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"
"""Zones; what lies inside a package has a second colon. AMD's have the same name."""


@dataclass
class Meter:
    """Adds up the counters of some zones, which begin anew at their range."""

    zones: Sequence[Path]
    _last: list[int] = field(init=False)
    _spent: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._last = [_read(zone, "energy_uj") for zone in self.zones]

    def joules(self) -> float:
        """What was spent since the meter was made. To be asked at least once a minute."""
        for number, zone in enumerate(self.zones):
            now = _read(zone, "energy_uj")
            since = now - self._last[number]
            self._spent += since if since >= 0 else since + _read(zone, "max_energy_range_uj")
            self._last[number] = now
        return self._spent / 1e6


def meter(root: Path = POWERCAP) -> Meter | None:
    """A meter of all packages; None where `why_not` says so."""
    return None if why_not(root) else Meter(_zones(root))


def why_not(root: Path = POWERCAP) -> str:
    """Why no energy can be read on this machine, and what helps; "" where it can."""
    zones = _zones(root)
    if not zones:
        return f"this machine has no counters of energy in {root}"
    try:
        for zone in zones:
            _read(zone, "energy_uj")
    except OSError as failure:
        what = (failure.strerror or "cannot be read").lower()
        return f"{failure.filename}: {what}; make it readable (chmod a+r), as root"
    return ""


def _zones(root: Path) -> list[Path]:
    return sorted(zone for zone in root.glob(_PACKAGES) if zone.name.count(":") == 1)


def _read(zone: Path, name: str) -> int:
    return int((zone / name).read_text(encoding="ascii"))
