"""Lines of NVIDIA's tegrastats, as JetPack 4 to 6 print them.

A rail is `NAME 3150mW/2971mW` (now, and averaged since tegrastats began); JetPack 4 leaves `mW`
out. A temperature is `cpu@48.5C`, in JetPack 5 `CPU@48.5C`; -256 stands for a sensor that is off.
`GR3D_FREQ 14%@[407,407]` is the GPU's load and the MHz of each of its clusters; JetPack 4 and some
of 5 write `14%@407`, or no clock at all. Started without root it leaves all rails out.
https://docs.nvidia.com/jetson/archives/r36.3/DeveloperGuide/AT/JetsonLinuxDevelopmentTools/TegrastatsUtility.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?= |$)", re.ASCII)
_TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)@(-?\d+(?:\.\d+)?)C\b", re.ASCII)
_ENGINE = re.compile(r"\b([A-Z0-9]+)_FREQ (?:(\d+)%)?(?:@?\[?(\d+(?:,\d+)*)\]?)?(?= |$)", re.ASCII)
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"\b(\d+)%@(\d+)\b", re.ASCII)
_MEMORY = re.compile(r"\bRAM (\d+)/(\d+)MB", re.ASCII)
_OFF = -256.0


@dataclass(frozen=True)
class Line:
    """One line. Watts now and averaged by rail, degrees Celsius, MHz and load (0..1) by engine.

    `cpu` has load and MHz of each core that is on. What a line lacks is not in it.
    """

    watts: dict[str, float]
    average_watts: dict[str, float]
    celsius: dict[str, float]
    mhz: dict[str, int]
    load: dict[str, float]
    cpu: tuple[tuple[float, int], ...]
    memory_mb: tuple[int, int] | None

    def why_no_power(self) -> str:
        """Why the line has no watts; "" where it has."""
        if self.watts:
            return ""
        return "this line of tegrastats has no rails; run it as root"


def parse(line: str) -> Line | None:
    """A line's figures; None where it is no line of tegrastats."""
    memory = _MEMORY.search(line)
    if memory is None:
        return None
    rails = {m[1]: (int(m[2]) / 1e3, int(m[3]) / 1e3) for m in _RAIL.finditer(_after(line))}
    engines = list(_ENGINE.finditer(line))
    cores = _CORES.search(line)
    return Line(
        {name: now for name, (now, _) in rails.items()},
        {name: mean for name, (_, mean) in rails.items()},
        {m[1].lower(): t for m in _TEMPERATURE.finditer(line) if (t := float(m[2])) > _OFF},
        {m[1]: max(map(int, m[3].split(","))) for m in engines if m[3]},
        {m[1]: int(m[2]) / 100 for m in engines if m[2]},
        tuple((int(m[1]) / 100, int(m[2])) for m in _CORE.finditer(cores[1])) if cores else (),
        (int(memory[1]), int(memory[2])),
    )


@dataclass(frozen=True)
class Log:
    """What a log of tegrastats says: mean watts by rail, mean and highest degrees by zone.

    `lines` are those of tegrastats, `others` what was none of them.
    """

    lines: int
    others: int
    watts: dict[str, float]
    celsius: dict[str, tuple[float, float]]


def log(lines: Iterable[str]) -> Log:
    """Sum up a log, however many lines it has."""
    count, others = 0, 0
    watts: dict[str, list[float]] = {}
    celsius: dict[str, list[float]] = {}
    for text in lines:
        line = parse(text)
        if line is None:
            others += bool(text.strip())
            continue
        count += 1
        for name, value in line.watts.items():
            watts.setdefault(name, []).append(value)
        for name, value in line.celsius.items():
            celsius.setdefault(name, []).append(value)
    heat = {name: (fmean(values), max(values)) for name, values in celsius.items()}
    return Log(count, others, {name: fmean(values) for name, values in watts.items()}, heat)


def _after(line: str) -> str:
    """What follows the memory's part, whose figures look like those of rails."""
    end = line.find("CPU [")
    return line[end:] if end >= 0 else line
