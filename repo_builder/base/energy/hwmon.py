"""Sensors of hwmon: the INA3221 of Jetson boards, and what else tells its power.

https://docs.kernel.org/hwmon/ina3221.html and .../sysfs-interface.html. `inN_input` is mV of bus
N, `currN_input` mA, `powerN_input` uW, `energyN_input` uJ. On Jetson the chips hang on I2C:
`/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmonN` (JetPack 5 and 6; `ina3221x` and
`iio:device0/in_power0_input` up to JetPack 4), with the rails' names in `inN_label`. Channels 4 to
6 are voltages over shunts, and 7 is their sum: neither is a rail. Beside `inN_label` comes a
`currN_input` only for a rail. Many boards let only root read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.energy import files
from repo_builder.base.energy.types import About, CannotRead, Covers, Missing

WAY = "hwmon"
_RAILS = range(1, 4)
_BOARD_INPUTS = {"VDD_IN", "POM_5V_IN", "VIN"}
"""Rails through which all of a module's power comes."""
_INA_STEP_W = 0.04
"""8 mV and 8 mA (40 uV over 5 mOhm) steps at 5 V."""


@dataclass(frozen=True)
class Rail:
    """Bus voltage times current of one channel."""

    millivolts: Path
    milliamperes: Path
    about: About

    def read(self) -> float:
        """Watts now."""
        return files.number(self.millivolts) * files.number(self.milliamperes) / 1e6


@dataclass(frozen=True)
class Direct:
    """A file that tells power (uW, or mW of old drivers) or energy (uJ) by itself."""

    path: Path
    scale: float
    about: About

    def read(self) -> float:
        """Watts now, or joules so far."""
        return files.number(self.path) / self.scale


def find(root: Path) -> Iterator[Rail | Direct | Missing]:
    """Every sensor of power that the kernel shows under class/hwmon, once each."""
    devices = root / "sys/class/hwmon"
    found = False
    for device in sorted(devices.glob("hwmon*"), key=files.natural):
        for source in _of(device):
            found = True
            yield source
    for old in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for path in sorted(old.glob("in_power*_input")):
            number = path.name.removeprefix("in_power").removesuffix("_input")
            rail = files.text_or(old / f"rail_name_{number}", f"{old.parent.name} {number}")
            found = True
            yield _checked(Direct(path, 1e3, _about(rail, 0.04)))
    if not found:
        yield Missing(WAY, f"no sensor of power in {devices}")


def _of(device: Path) -> Iterator[Rail | Direct | Missing]:
    try:
        name = files.text_or(device / "name", device.name)
        if name.startswith("ina3221"):
            for number in _RAILS:
                amperes = device / f"curr{number}_input"
                label = files.text_or(device / f"in{number}_label", f"{name} {number}")
                off = files.text_or(device / f"in{number}_enable", "1") == "0"
                if amperes.exists() and label != "NC" and not off:
                    about = _about(label, _INA_STEP_W)
                    yield _checked(Rail(device / f"in{number}_input", amperes, about))
            return
        for kind, unit in (("power", "W"), ("energy", "J")):
            for path in sorted(device.glob(f"{kind}*_input"), key=files.natural):
                label = files.text_or(
                    path.with_name(path.name.replace("_input", "_label")), path.stem[:-6]
                )
                about = About(WAY, f"{name} {label}", "sensor", unit, 1e-6)  # type: ignore[arg-type]
                yield _checked(Direct(path, 1e6, about))
        for path in sorted(device.glob("power*_average")):  # amdgpu
            if not path.with_name(path.name.replace("_average", "_input")).exists():
                covers: Covers = "gpu" if name == "amdgpu" else "sensor"
                yield _checked(Direct(path, 1e6, About(WAY, name, covers, "W", 1e-6)))
    except CannotRead as failure:
        yield Missing(WAY, str(failure))


def _about(label: str, step: float) -> About:
    return About(WAY, label, "board" if label in _BOARD_INPUTS else "rail", "W", step)


def _checked(source: Rail | Direct) -> Rail | Direct | Missing:
    try:
        source.read()
    except CannotRead as failure:
        return Missing(WAY, str(failure))
    return source
