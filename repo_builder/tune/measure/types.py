"""What is measured, and what came of it. Only frozen data, and its JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from repo_builder.base.hardware import Hardware, State

FORMAT = 1
"""Of the JSON; another one is not read."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Subject:
    """A model file that runs here: one precision in one runtime.

    `folder` holds it, `inputs` is the .npz file to run it on, or None: then inputs are made up.
    `threads` 0 leaves their number to the runtime. `digest` is that of its files. Where it is
    `served`, `folder` is a repository for Triton, and `callers` ask at once.
    """

    model: str
    target: str
    precision: str
    runtime: str
    folder: Path
    inputs: Path | None
    digest: str
    threads: int = 0
    callers: int = 0

    @property
    def served(self) -> bool:
        """Whether it is asked through Triton."""
        return self.callers > 0


@dataclass(frozen=True)
class Sample:
    """One batch size in one visit: what was seen of `runs` runs that took `seconds` in all.

    `rows_per_second` and `p50_ms` are of this visit alone; `tail` has the times of all its runs, as
    counts in buckets of `base.histogram`. `joules` are those of a row; None where none are counted.
    """

    batch: int
    runs: int
    seconds: float
    rows_per_second: float
    p50_ms: float
    tail: Mapping[str, object]
    joules: float | None = None


@dataclass(frozen=True)
class Visit:
    """A fresh process that loaded a subject and ran it; `doubt`: why not to trust it, or ""."""

    samples: tuple[Sample, ...]
    load: float | None
    throttled: float
    doubt: str = ""


@dataclass(frozen=True)
class Memory:
    """Of a fresh process that did nothing but load the model and run one batch size, in MB.

    `resident` is the whole process (RSS), interpreter and libraries included, `model` what loading
    and running added at the peak.
    """

    resident: float
    model: float


@dataclass(frozen=True)
class Figure:
    """A figure and its interval of 95 % confidence; None where too few visits tell none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def wide(self) -> float:
        """Half the interval as a share of the figure; infinite where there is none."""
        if self.low is None or self.high is None or not self.value:
            return math.inf
        return (self.high - self.low) / 2 / abs(self.value)


@dataclass(frozen=True)
class Cell:
    """One line of the table: a subject with one batch size.

    `rows_per_second` and `p50_ms` are means over visits, `p99_ms` of all runs of all visits; None
    of fewer than 100 runs. `visits` are rows a second of each visit that was trusted: what another
    run is compared by. `repeated` counts visits that were made again since others used the machine.
    `narrow`: the interval is as narrow as was asked. `doubt`: why the figures are not to be
    trusted, "" where they are.
    """

    model: str
    target: str
    precision: str
    runtime: str
    batch: int
    callers: int
    digest: str
    rows_per_second: Figure
    p50_ms: Figure
    p99_ms: Figure | None
    rows_per_joule: Figure | None
    memory: Memory | None
    runs: int
    visits: tuple[float, ...]
    narrow: bool
    repeated: int = 0
    doubt: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from the other cells of a run, and finds it in another run."""
        return (self.model, self.target, self.precision, self.runtime, self.batch, self.callers)

    @property
    def name(self) -> str:
        """The key for people: `digits int8 onnxruntime, batch 8`."""
        asked = f", {self.callers} at once" if self.callers else ""
        return f"{self.model} {self.precision} {self.runtime}, batch {self.batch}{asked}"


@dataclass(frozen=True)
class Measured:
    """A whole run.

    `at` is when it began, in UTC. `within` is the half width that was asked for, as a share.
    `left_out` says what of the build was not measured and why, `notes` what else a reader must
    know. `finished` is False where the user ended it early. `tools` maps runtimes to versions.
    """

    at: str
    seconds: float
    rounds: int
    within: float
    hardware: Hardware
    before: State
    after: State
    tools: Mapping[str, str]
    cells: tuple[Cell, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    finished: bool = True
    threads: int = 0
    format: int = field(default=FORMAT)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types; `of_json` reads them."""
        return asdict(self)


def of_json(plain: Any) -> Measured:
    """What `as_json` gave. ValueError, KeyError or TypeError of anything else."""
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
        raise ValueError("not of this format")
    given = dict(plain)
    given["hardware"] = _hardware(given["hardware"])
    given["before"], given["after"] = State(**given["before"]), State(**given["after"])
    given["cells"] = tuple(map(_cell, given["cells"]))
    given["left_out"], given["notes"] = tuple(given["left_out"]), tuple(given["notes"])
    return Measured(**given)


def _hardware(plain: Mapping[str, Any]) -> Hardware:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    return Hardware(**given)


def _cell(plain: Mapping[str, Any]) -> Cell:
    given = dict(plain)
    for name in ("rows_per_second", "p50_ms", "p99_ms", "rows_per_joule"):
        given[name] = Figure(**given[name]) if given[name] is not None else None
    given["memory"] = Memory(**given["memory"]) if given["memory"] is not None else None
    given["visits"] = tuple(map(float, given["visits"]))
    return Cell(**given)
