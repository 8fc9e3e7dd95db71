"""Which members of a family a device affords, in each of its power modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repo_builder.targets import Precision, Target
from repo_builder.targets.advise import Candidate, Machine, Need, rank
from repo_builder.tune.family.members import Weighed


@dataclass(frozen=True)
class Budget:
    """What an inference may take: ms, and MB of 2 ** 20 bytes; None: as much as there is.

    `fps` are rows a second, `power_w` the draw of the device.
    """

    latency_ms: float | None = None
    memory_mb: float | None = None
    fps: float | None = None
    power_w: float | None = None


@dataclass(frozen=True)
class Afforded:
    """A member on a device in one power mode; `fits` also within the budget."""

    weighed: Weighed
    candidate: Candidate
    fits: bool
    why: str

    @property
    def latency_ms(self) -> float | None:
        """The estimate; None where a figure of the device is missing."""
        return self.candidate.timing.latency_ms if self.candidate.timing else None


def afford(
    family: Sequence[Weighed],
    target: Target,
    budget: Budget,
    machine: Machine,
    precision: Precision | None = None,
) -> tuple[Afforded, ...]:
    """Every member in every power mode, by the estimate of `targets.advise`.

    What is "maybe" there, right as estimated but not at twice the time, fits; it is to be measured.
    """
    need = Need(budget.fps, budget.latency_ms, budget.power_w)
    found = []
    for one in family:
        for candidate in rank(one.workload, [target], need, machine, precision, one.contents):
            why = list(candidate.why)
            needed = candidate.memory.needed_mb
            over = budget.memory_mb is not None and needed > budget.memory_mb
            if over:
                why.append(f"needs {needed:.3g} MB of memory")
            fits = candidate.verdict in ("yes", "maybe") and not over
            found.append(Afforded(one, candidate, fits, "; ".join(why)))
    order = {weighed.member.name: number for number, weighed in enumerate(family)}
    modes = {mode.name: n for n, mode in enumerate(target.power_modes)}
    return tuple(
        sorted(
            found,
            key=lambda a: (
                modes.get(a.candidate.mode.name, 0) if a.candidate.mode else 0,
                order[a.weighed.member.name],
            ),
        )
    )


def largest(afforded: Sequence[Afforded]) -> dict[str, Afforded | None]:
    """For each device and mode, the member with the most work that fits; None where none does."""
    best: dict[str, Afforded | None] = {}
    for one in afforded:
        before = best.setdefault(one.candidate.id, None)
        if one.fits and (
            before is None or one.weighed.workload.macs > before.weighed.workload.macs
        ):
            best[one.candidate.id] = one
    return best
