"""What of the machine makes a time what it is: instructions, governor, clocks, temperatures.

All from Linux's /proc and /sys, as far as they say it: many virtual machines and containers do not,
and then nothing is filled in.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import machine
from repo_builder.base.energy import climate

_MATTER = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "fphp", "asimdhp", "asimddp",
    "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""Instructions that the kernels of ONNX Runtime and OpenVINO choose between."""

_HYPERVISOR = "hypervisor"
_CPUS = Path("sys/devices/system/cpu")


@dataclass(frozen=True)
class Hardware:
    """What stays while something is measured.

    `cores` are those that this process may use, of `cores_online`; `quota` is the CPU quota of its
    control group in cores, None without one. `flags` are instructions that runtimes choose kernels
    by. `governors` are those of our cores, `max_mhz` the fastest clock that the system allows;
    empty and None where it does not say. `memory_mb` is all of the machine's.
    """

    cpu: str
    architecture: str
    cores: int
    cores_online: int
    quota: float | None
    flags: tuple[str, ...]
    governors: tuple[str, ...]
    max_mhz: float | None
    memory_mb: float | None
    virtual: bool
    system: str

    @property
    def identity(self) -> tuple[object, ...]:
        """What must be equal for two times to be compared."""
        return (self.cpu, self.architecture, self.cores, self.quota, self.flags, self.governors)


@dataclass(frozen=True)
class State:
    """What changes. `mhz` is the clock of the cores, `celsius` the hottest of the thermal zones.

    `throttled` counts how often heat or power has slowed a core down since the start; `load` is the
    load average of the last minute. None where the system does not say.
    """

    mhz: float | None
    celsius: float | None
    throttled: int | None
    load: float | None


def hardware(root: Path = Path("/")) -> Hardware:
    """Look at the machine whose system files lie below `root`."""
    flags = _flags(root)
    clocks = [_number(path) for path in root.glob(f"{_CPUS}/cpu[0-9]*/cpufreq/scaling_max_freq")]
    governors = {_text(path) for path in root.glob(f"{_CPUS}/cpu[0-9]*/cpufreq/scaling_governor")}
    known = [clock / 1e3 for clock in clocks if clock is not None]  # from kHz
    return Hardware(
        cpu=machine.cpu_name(root),
        architecture=machine.architecture(),
        cores=machine.cores_allowed(root),
        cores_online=len(_cpus(root)),
        quota=machine.quota(root),
        flags=tuple(flag for flag in _MATTER if flag in flags),
        governors=tuple(sorted(governors - {""})),
        max_mhz=max(known, default=None),
        memory_mb=_memory(root),
        virtual=_HYPERVISOR in flags,
        system=f"{platform.system()} {platform.release()}",
    )


def state(root: Path = Path("/")) -> State:
    """How the machine is now."""
    now = climate.read(root)
    clocks = _reported_mhz(root)
    load = _text(root / "proc/loadavg").split()[:1]
    return State(
        mhz=now.cpu_mhz() or (clocks[len(clocks) // 2] if clocks else None),
        celsius=now.hottest(),
        throttled=sum(now.throttles.values()) if now.throttles else None,
        load=float(load[0]) if load else None,
    )


def _flags(root: Path) -> set[str]:
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def _cpus(root: Path) -> list[str]:
    lines = _text(root / "proc/cpuinfo").splitlines()
    return [line for line in lines if line.partition(":")[0].strip() == "processor"]


def _reported_mhz(root: Path) -> list[float]:
    """Clocks as /proc/cpuinfo has them: on x86 alone, and in virtual machines a constant."""
    found = []
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            found.append(float(value))
    return sorted(found)


def _memory(root: Path) -> float | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024 / 1e6
    return None


def _number(path: Path) -> float | None:
    text = _text(path)
    return float(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # also what a driver says while a sensor is off
        return ""
