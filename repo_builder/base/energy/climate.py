"""How warm a machine is, how fast its clocks run, and whether something slows them down.

Thermal zones: https://docs.kernel.org/driver-api/thermal/sysfs-api.html (millidegrees), and sensors
of processors in hwmon. Clocks:
`cpufreq/scaling_cur_freq` (kHz) and `devfreq/*/cur_freq` (Hz). Counters of being throttled: x86's
`thermal_throttle/*_throttle_count`, and the over-current events of Jetson's `soctherm_oc`
(`ocN_event_cnt`): Orin lowers its clocks at each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.energy import files
from repo_builder.base.energy.types import CannotRead

_PROCESSORS = {"coretemp", "k10temp", "zenpower", "amdgpu"}
"""Drivers of hwmon whose temperatures are a processor's: AMD's have no thermal zone. Not those of
disks and boards."""

_COLDEST, _HOTTEST = -60.0, 150.0
"""Degrees Celsius beyond which a sensor tells nothing; one that is off says -256 or so."""


@dataclass(frozen=True)
class Climate:
    """The machine at one moment: degrees Celsius by zone, MHz by clock, counts by counter.

    What could not be read is absent, and `missing` says why, a line for each. `at` is of
    `time.perf_counter`; `ticks` are the CPUs' (busy, all) since boot: two moments make a share.
    """

    at: float
    celsius: dict[str, float]
    mhz: dict[str, float]
    throttles: dict[str, int]
    ticks: tuple[int, int] | None
    missing: tuple[str, ...]

    def hottest(self) -> float | None:
        """The warmest zone."""
        return max(self.celsius.values(), default=None)

    def cpu_mhz(self) -> float | None:
        """The mean of the CPUs' clocks."""
        cpus = [mhz for name, mhz in self.mhz.items() if name.startswith("policy")]
        return sum(cpus) / len(cpus) if cpus else None


def busy(before: Climate, after: Climate) -> float | None:
    """The share (0..1) of the CPUs' time that was used between two moments."""
    return share(before.ticks, after.ticks)


def share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """The share in use between two readings of ticks; None where no tick passed."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def throttled(before: Climate, after: Climate) -> dict[str, int]:
    """The counters that went up, and by how much."""
    rises = {n: count - before.throttles.get(n, count) for n, count in after.throttles.items()}
    return {name: rise for name, rise in rises.items() if rise > 0}


def read(root: Path = Path("/")) -> Climate:
    """The machine now; `root` is where its `sys` and `proc` are."""
    missing: list[str] = []
    celsius = _warm(_gather(_zones(root), missing), missing)
    mhz = _gather(_clocks(root), missing)
    counts = _gather(_counters(root), missing)
    if not celsius:
        missing.append(
            f"temperature: no thermal zone that tells it in {root / 'sys/class/thermal'}"
        )
    if not mhz:
        missing.append(f"clocks: no cpufreq or devfreq in {root / 'sys'}")
    if not counts:
        missing.append("throttling: this machine has no counters of it")
    throttles = {name: int(count) for name, count in counts.items()}
    return Climate(time.perf_counter(), celsius, mhz, throttles, read_ticks(root), tuple(missing))


def _gather(found: Iterator[tuple[str, Path, float]], missing: list[str]) -> dict[str, float]:
    """Figures by name; what cannot be read is told."""
    figures: dict[str, float] = {}
    for name, path, scale in found:
        try:
            value = files.number(path) / scale
        except CannotRead as failure:
            missing.append(str(failure))
            continue
        unique = name if name not in figures else f"{name} {path.parent.name}"
        figures[unique] = value
    return figures


def _warm(figures: dict[str, float], missing: list[str]) -> dict[str, float]:
    """Those that are temperatures; the others are told."""
    for name, value in figures.items():
        if not _COLDEST < value < _HOTTEST:
            missing.append(f"{name}: {value:g} C is no temperature; the sensor is off or broken")
    return {name: value for name, value in figures.items() if _COLDEST < value < _HOTTEST}


def _zones(root: Path) -> Iterator[tuple[str, Path, float]]:
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=files.natural):
        try:
            name = files.text_or(zone / "type", zone.name)
        except CannotRead:
            name = zone.name
        yield name, zone / "temp", 1e3
    for device in sorted((root / "sys/class/hwmon").glob("hwmon*"), key=files.natural):
        driver = _name(device)
        if driver in _PROCESSORS:
            for path in sorted(device.glob("temp*_input"), key=files.natural):
                label = path.with_name(path.name.replace("_input", "_label"))
                yield f"{driver} {_name(label.parent, label.name)}".rstrip(), path, 1e3


def _name(folder: Path, name: str = "name") -> str:
    try:
        return files.text_or(folder / name, "")
    except CannotRead:
        return ""


def _clocks(root: Path) -> Iterator[tuple[str, Path, float]]:
    cpufreq = root / "sys/devices/system/cpu/cpufreq"
    for policy in sorted(cpufreq.glob("policy*"), key=files.natural):
        yield policy.name, policy / "scaling_cur_freq", 1e3
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        if (device / "cur_freq").exists():
            yield device.name, device / "cur_freq", 1e6


def _counters(root: Path) -> Iterator[tuple[str, Path, float]]:
    cpus = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=files.natural)
    packages = set()
    for cpu in cpus:
        folder = cpu / "thermal_throttle"
        if (folder / "core_throttle_count").exists():
            yield f"{cpu.name} too hot", folder / "core_throttle_count", 1.0
        package = cpu / "topology/physical_package_id"
        if (folder / "package_throttle_count").exists():
            name = package.read_text().strip() if package.exists() else "0"
            if name not in packages:  # each core shows its package's count
                packages.add(name)
                yield f"package {name} too hot", folder / "package_throttle_count", 1.0
    for device in sorted((root / "sys/class/hwmon").glob("hwmon*"), key=files.natural):
        for path in sorted(device.glob("oc*_event_cnt")):
            yield f"over-current {path.name.removesuffix('_event_cnt')}", path, 1.0


def read_ticks(root: Path) -> tuple[int, int] | None:
    """The CPUs' (busy, all) ticks since boot; None where /proc does not tell."""
    try:
        line = files.text(root / "proc/stat").splitlines()[0]
    except (CannotRead, IndexError):
        return None
    ticks = [int(word) for word in line.split()[1:9]]
    idle = sum(ticks[3:5])
    return sum(ticks) - idle, sum(ticks)
