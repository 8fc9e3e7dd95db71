"""Counters of powercap: RAPL of Intel and AMD processors.

https://docs.kernel.org/power/powercap/powercap.html. A zone's `energy_uj` counts microjoules and
begins anew at `max_energy_range_uj`. The hardware counts in steps of 61 uJ or so and about every
millisecond. Since 2020 only root may read it (CVE-2020-8694).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from repo_builder.base.energy import files
from repo_builder.base.energy.types import About, CannotRead, Covers, Missing

WAY = "rapl"
_COVERS: dict[str, Covers] = {"package": "package", "psys": "machine", "dram": "memory"}
_STEP_J = 61e-6
"""2^-14 J, what most processors count in; powercap does not tell."""


@dataclass
class Zone:
    """A zone's counter, made to go on where it begins anew."""

    folder: Path
    about: About
    _last: int | None = field(init=False, default=None)
    _joules: float = field(init=False, default=0.0)

    def read(self) -> float:
        """Joules since the first read. To be asked once a minute at least, or a turn is missed."""
        now = files.number(self.folder / "energy_uj")
        if self._last is not None:
            since = now - self._last
            if since < 0:
                since += self._range()
            if since < 0:
                raise CannotRead(f"{self.folder}: the counter went back by more than its range")
            self._joules += since / 1e6
        self._last = now
        return self._joules

    def _range(self) -> int:
        try:
            return files.number(self.folder / "max_energy_range_uj")
        except CannotRead as failure:
            raise CannotRead(f"{self.folder}: the counter went back; {failure}") from None


def find(root: Path) -> Iterator[Zone | Missing]:
    """The packages' zones, the memory beside them, and the platform's where one is counted."""
    powercap = root / "sys/class/powercap"
    zones = sorted(powercap.glob("intel-rapl:*"), key=lambda zone: zone.name)
    found = False
    for zone in zones:  # AMD's have the same name
        try:
            name = files.text_or(zone / "name", "package")
            covers = _COVERS.get(name.partition("-")[0])
            inside = zone.name.count(":") > 1
            if covers is None or (inside and covers != "memory"):
                continue  # cores and such, which a package counts already
            if inside:
                name = (
                    f"{name} of {files.text_or(zone.parent / zone.name[:-2] / 'name', 'package')}"
                )
            files.number(zone / "energy_uj")
            found = True
            yield Zone(zone, About(WAY, name, covers, "J", _STEP_J))
        except CannotRead as failure:
            found = True
            yield Missing(WAY, str(failure))
    if not found:
        yield Missing(WAY, f"this machine has no counters of energy in {powercap}")
