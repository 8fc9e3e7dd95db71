"""Batteries, as the kernel's class power_supply tells them.

https://docs.kernel.org/power/power_supply_class.html: uV, uA, uW, uWh, uAh. A current's sign is
the driver's: some tell discharge as negative, some as positive; `status` says which way it flows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.energy import files
from repo_builder.base.energy.types import About, CannotRead, Missing

WAY = "battery"


@dataclass(frozen=True)
class Battery:
    """One battery: what leaves it, while it is discharged."""

    folder: Path
    about: About

    def read(self) -> float:
        """Watts that leave it now. CannotRead unless it is discharged: nothing else tells it."""
        status = self.status()
        if status != "Discharging":
            raise CannotRead(
                f"{self.folder}: {status.lower()}; only while it is discharged does it tell what "
                "the machine draws: unplug it"
            )
        power = self.folder / "power_now"
        if power.exists():
            return abs(files.number(power)) / 1e6
        volts = files.number(self.folder / "voltage_now") / 1e6
        return volts * abs(files.number(self.folder / "current_now")) / 1e6

    def status(self) -> str:
        """`Charging`, `Discharging`, `Full`, `Not charging` or `Unknown`."""
        return files.text(self.folder / "status")

    def watt_hours(self) -> float:
        """What is left in it. CannotRead where neither energy nor charge is told."""
        if (self.folder / "energy_now").exists():
            return files.number(self.folder / "energy_now") / 1e6
        for name in ("voltage_min_design", "voltage_now"):
            if (self.folder / name).exists():
                volts = files.number(self.folder / name) / 1e6
                return volts * files.number(self.folder / "charge_now") / 1e6
        raise CannotRead(f"{self.folder}: tells neither energy nor voltage")


def find(root: Path) -> Iterator[Battery | Missing]:
    """Every battery that feeds the machine; those of mice and headsets have the scope Device."""
    supplies = root / "sys/class/power_supply"
    found = False
    for folder in sorted(supplies.glob("*"), key=files.natural):
        try:
            if files.text_or(folder / "type", "") != "Battery":
                continue
            if files.text_or(folder / "scope", "System") == "Device":
                continue
            found = True
            battery = Battery(folder, About(WAY, folder.name, "battery", "W", 1e-6))
            battery.read()
            yield battery
        except CannotRead as failure:
            yield Missing(WAY, str(failure))
    if not found:
        yield Missing(WAY, f"no battery in {supplies}")
