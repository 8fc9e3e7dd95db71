"""The machine that a time is taken on, how busy it is meanwhile, and whether the time is to be
trusted; from Linux's /proc and control groups, so that it works in containers and CI machines.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_LOAD = 0.2
"""Others' share of the cores above which a time is not trusted."""

MOST_THROTTLED = 0.05
"""The share of the time that a CPU quota may hold this process up."""

MOST_SPREAD = 0.25
"""How far the middle half of repeated medians may spread, as a share of their median."""

_OCI_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What Linux calls a processor -> what OCI and target files call it."""

_CGROUP = Path("sys/fs/cgroup")
_TOO_SHORT = 0.05
"""Seconds of work over which /proc/stat, which counts in hundredths, says something."""


@dataclass(frozen=True)
class Conditions:
    """The machine, and what happened on it while something was measured.

    `cores` are those that this process may use, by affinity and quota. `load` is the share of
    their time (0..1) that others used, processes or (steal) other virtual machines; None where
    the system does not say. `throttled` is the share of the time that a quota held us up.
    """

    cpu: str
    cores: int
    load: float | None
    throttled: float


class Watch:
    """Measures `Conditions` from when it is made; `root` is where the system's files lie.

    `helpers` tells the CPU seconds so far of other processes that work for this one: their time
    does not count as others'.
    """

    def __init__(self, root: Path = Path("/"), helpers: Callable[[], float] = lambda: 0.0) -> None:
        self._root = root
        self._helpers = helpers
        self._cores = sorted(os.sched_getaffinity(0))
        self._begun = self._read()

    def conditions(self) -> Conditions:
        """What happened since the start."""
        now = self._read()
        wall, own, busy, held = (b - a for a, b in zip(self._begun, now, strict=True))
        cores = cores_allowed(self._root)
        load = None
        if wall > 0 and (busy > 0 or own < _TOO_SHORT) and now[2] > 0:
            load = min(1.0, max(0.0, (busy - own) / (wall * len(self._cores))))
        throttled = min(1.0, max(0.0, held / wall)) if wall > 0 else 0.0
        return Conditions(cpu_name(self._root), cores, load, throttled)

    def _read(self) -> tuple[float, float, float, float]:
        """Seconds: of the clock, of this process and its helpers, of all, held up by a quota."""
        return (
            time.perf_counter(),
            time.process_time() + self._helpers(),
            _busy(self._root / "proc/stat", {f"cpu{core}" for core in self._cores}),
            _held_up(self._root),
        )


def quiet_for(seconds: float, root: Path = Path("/")) -> Conditions:
    """What others do while this process sleeps for `seconds`: a server that waits for us idles."""
    watch = Watch(root)
    time.sleep(seconds)
    return watch.conditions()


def spread(medians: Sequence[float]) -> float:
    """The middle half of repeated medians, as a share of their median; 0 of a single one."""
    import statistics  # planning needs this module, and not what that imports

    if len(medians) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive")
    return (high - low) / middle


def doubt(load: float | None, throttled: float, spread: float) -> str:
    """Why a time is not to be trusted; "" where it is. `spread`: see `MOST_SPREAD`."""
    reasons = []
    if load is not None and load > MOST_LOAD:
        reasons.append(f"others used {load:.0%} of the processor")
    if throttled > MOST_THROTTLED:
        reasons.append(f"a CPU quota held it up {throttled:.0%} of the time")
    if spread > MOST_SPREAD:
        reasons.append(f"repeated measurements differ by {spread:.0%}")
    return " and ".join(reasons)


def cpu_name(root: Path = Path("/")) -> str:
    """The processor as it calls itself: "AMD EPYC 7763", "Raspberry Pi 5 Model B Rev 1.0"."""
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip():
            return " ".join(value.split())
    return platform.machine()


def architecture() -> str:
    """amd64, arm64, or the kernel's own word for another."""
    return _OCI_NAMES.get(platform.machine(), platform.machine())


def cores_allowed(root: Path = Path("/")) -> int:
    """How many cores this process may keep busy: by affinity, and by its group's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    allowed = quota(root)
    return cores if allowed is None else min(cores, max(1, int(allowed)))


def quota(root: Path = Path("/")) -> float | None:
    """The CPU quota of this process's control group, in cores; None without one."""
    found = []
    for folder in _groups(root):
        spend, _, period = (_lines(folder / "cpu.max") or [""])[0].partition(" ")
        if spend.isdigit() and period.isdigit():
            found.append(int(spend) / int(period))
    return min(found, default=None)


def _busy(path: Path, cores: set[str]) -> float:
    """Seconds that `cores` did not idle since the machine's start; 0 where it is not said."""
    ticks = 0
    for line in _lines(path):
        name, *fields = line.split()
        if name in cores:
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _held_up(root: Path) -> float:
    """Seconds that a CPU quota held our group up; of version 2 groups and of version 1."""
    for folder in (*_groups(root), root / _CGROUP / "cpu"):
        for line in _lines(folder / "cpu.stat"):
            name, _, value = line.partition(" ")
            if name == "throttled_usec":
                return int(value) / 1e6
            if name == "throttled_time":
                return int(value) / 1e9
    return 0.0


def _groups(root: Path) -> Iterator[Path]:
    """The folders of our version 2 group: by its path, and as a container sees its own."""
    for line in _lines(root / "proc/self/cgroup"):
        if line.startswith("0::/") and (inner := line.removeprefix("0::/")):
            yield root / _CGROUP / inner
    yield root / _CGROUP


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
