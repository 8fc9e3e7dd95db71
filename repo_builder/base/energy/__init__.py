"""What a machine draws, and how warm it gets, where its sensors may be read.

`find` looks for every source below a root and says of each what it covers, or why a way gives
nothing; `meter` adds up those that together are the machine, none of them twice. A source is
`rapl` (processors), `hwmon` (INA3221 and others), `battery` or `nvml`; `tegrastats` reads lines of
that tool, `climate` temperatures, clocks and counters of throttling. `account` is the arithmetic.
Only the standard library, since devices run it. What was not measured is never filled in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.energy import battery, hwmon, nvml, rapl
from repo_builder.base.energy.meter import Measures, Meter
from repo_builder.base.energy.types import About, CannotRead, Missing, Source

__all__ = ["About", "CannotRead", "Found", "Measures", "Meter", "Missing", "Source"]
__all__ += ["chosen", "find", "meter", "why_not"]

_INSIDE = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails whose power another rail counts too (Jetson Linux Developer Guide, AGX Orin)."""


@dataclass(frozen=True)
class Found:
    """All sources of a machine, and the ways that give nothing, with reasons."""

    sources: tuple[Source, ...]
    missing: tuple[Missing, ...]


def find(root: Path = Path("/")) -> Found:
    """Every source below `root`; GPUs only where it is this machine's own."""
    found: list[Source | Missing] = [*rapl.find(root), *hwmon.find(root), *battery.find(root)]
    if root == Path("/"):
        found += nvml.find()
    missing = tuple(one for one in found if isinstance(one, Missing))
    return Found(tuple(one for one in found if not isinstance(one, Missing)), missing)


def chosen(sources: Iterable[Source], *, slow: bool = False) -> tuple[Source, ...]:
    """Those that together are most of the machine, each watt once.

    The whole platform's counter; else the input of a board; else its rails, less those inside
    others; else the processors, with memory and GPUs that are counted beside them; else batteries,
    where `slow` is asked for: their gauges move every few seconds. Sensors of which nobody says
    what they cover are never among them.
    """
    by: dict[str, list[Source]] = {}
    for source in sources:
        by.setdefault(source.about.covers, []).append(source)
    gpus = by.get("gpu", [])
    if whole := by.get("machine"):
        return (*whole, *gpus)
    if board := by.get("board"):
        return tuple(board)
    if rails := by.get("rail"):
        names = {rail.about.name for rail in rails}
        return tuple(rail for rail in rails if _INSIDE.get(rail.about.name) not in names)
    if packages := by.get("package"):
        return (*packages, *by.get("memory", []), *gpus)
    return tuple(by.get("battery", ())) if slow else ()


def meter(root: Path = Path("/"), *, slow: bool = False) -> Meter | None:
    """A meter of the machine, to be used in a `with`; None where `why_not` says so.

    `slow` lets batteries count where nothing better is there.
    """
    sources = chosen(find(root).sources, slow=slow)
    return Meter(sources, root) if sources else None


def why_not(root: Path = Path("/")) -> str:
    """Why no energy can be read on this machine, and what helps; "" where it can."""
    found = find(root)
    if chosen(found.sources):
        return ""
    rights = [one for one in found.missing if "permission denied" in one.why]
    reasons = rights or [one for one in found.missing if one.way in ("rapl", "hwmon")]
    return "; ".join(dict.fromkeys(one.why for one in reasons))
