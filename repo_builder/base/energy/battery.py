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
_SUPPLIES = "sys/class/power_supply"


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


def watt_hours(root: Path = Path("/")) -> float:
    """What is left in all batteries, charging or not. CannotRead where there is none."""
    left = [
        Battery(folder, About(WAY, folder.name, "battery", "W", 1e-6)).watt_hours()
        for folder in _folders(root)
    ]
    if not left:
        raise CannotRead(f"no battery in {root / _SUPPLIES}")
    return sum(left)


def find(root: Path) -> Iterator[Battery | Missing]:
    """Every battery that feeds the machine."""
    folders = _folders(root)
    for folder in folders:
        battery = Battery(folder, About(WAY, folder.name, "battery", "W", 1e-6))
        try:
            battery.read()
        except CannotRead as failure:
            yield Missing(WAY, str(failure))
        else:
            yield battery
    if not folders:
        yield Missing(WAY, f"no battery in {root / _SUPPLIES}")


def _folders(root: Path) -> list[Path]:
    """Those of the machine's batteries; of mice and headsets the scope is Device."""
    return [
        folder
        for folder in sorted((root / _SUPPLIES).glob("*"), key=files.natural)
        if _says(folder, "type", "") == "Battery" and _says(folder, "scope", "System") == "System"
    ]


def _says(folder: Path, name: str, otherwise: str) -> str:
    try:
        return files.text_or(folder / name, otherwise)
    except CannotRead:
        return otherwise
