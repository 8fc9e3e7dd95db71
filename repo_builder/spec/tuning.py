"""`tuning.yaml` beside the specs of a folder: how `tune` found each model is served best.

Reads it into frozen `Tuning`s, and writes an entry without touching others. Whether a tuning is of
the model and the machine that are built for is `Tuning.why_not`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from repo_builder.base import document, validate
from repo_builder.base.document import Document
from repo_builder.base.errors import OutputError, Problem, SpecError, disk_fix
from repo_builder.spec.candidate import Candidate, Runtime
from repo_builder.spec.raw_base import Raw

TUNING = "tuning.yaml"

_Count = Annotated[int, Field(ge=1, le=4096)]


class RawServed(Raw):
    """The way to serve that was chosen."""

    runtime: Runtime
    """What serves it; it has to be the target's."""
    instances: _Count
    """Copies of the model that execute at the same time."""
    threads: _Count
    """Of each instance; instances times threads are at most the machine's cores."""
    max_batch: Annotated[int, Field(ge=0, le=4096)] = 0
    """Rows of a joined batch at most; 0: requests are not joined."""
    delay_us: Annotated[int, Field(ge=0, le=60_000_000)] | None = None
    """How long the batcher waits for more, in microseconds; null: requests are not joined."""
    shared_memory: bool = False
    """Whether clients handed tensors over in shared memory; a build does not depend on it."""


class RawMachine(Raw):
    """The machine that was measured."""

    cpu: str
    """The processor as it calls itself."""
    cores: _Count
    """Cores that could be used."""


class RawEntry(Raw):
    """What was found for one model@target."""

    model: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    """Digest of the built model that was measured, as the report shows it."""
    machine: RawMachine
    objective: str
    """What was best, such as `p99<=20ms at 200 requests/s`."""
    serve: RawServed
    margin: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    """How many times better than before: low, middle, high."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """How sure the margin is."""
    date: str = ""
    tool: str = ""
    """Version of repo-builder that measured."""


class RawTuning(Raw):
    """A `tuning.yaml`."""

    version: Literal[1]
    """Of this format."""
    models: dict[str, RawEntry] = Field(default={})
    """model@target -> what was found."""


@dataclass(frozen=True)
class Tuning:
    """An entry: `model` is the digest of the built model; `place` is `file:line`."""

    candidate: Candidate
    model: str
    cpu: str
    cores: int
    objective: str
    margin: tuple[float, float, float] | None = None
    confidence: float = 0.95
    date: str = ""
    tool: str = ""
    place: str = ""

    def why_not(self, runtime: str, model: str, cpu: str, cores: int, own: int) -> str:
        """Why a build does not use it; "" where it does.

        `runtime` and `cores` are the target's, 0 where they are the building machine's: then that
        must be the machine that was measured, `cpu` with `own` cores.
        """
        if self.candidate.runtime != runtime:
            return f"it is for {self.candidate.runtime}, and the target runs {runtime}"
        if self.model != model:
            return f"it is of another model ({self.model}, this is {model})"
        if self.cores != (cores or own) or (not cores and self.cpu != cpu):
            there = f"{cores} cores" if cores else f"{cpu}, {own} cores"
            return f"it is of another machine ({self.cpu}, {self.cores} cores; this is {there})"
        return ""


def read(folder: Path, problems: list[Problem]) -> dict[str, Tuning]:
    """The entries of a folder's `tuning.yaml` by model@target; none where there is no such file."""
    path = folder / TUNING
    if not path.exists():
        return {}
    found, unread = document.read(path)
    problems += unread
    if found is None or unread:
        return {}
    checked, wrong = validate.check(RawTuning, found)
    problems += wrong
    if not isinstance(checked, RawTuning):
        return {}
    read_ = {}
    for name, entry in checked.models.items():
        one = _tuning(entry, found, name)
        if one.candidate.cores > one.cores:
            what = f"{one.candidate.cores} threads in all, but the machine has {one.cores} cores"
            at = ("models", name, "serve")
            problems.append(found.problem(at, what, "run `repo-builder tune` anew"))
        read_[name] = one
    return read_


def _tuning(entry: RawEntry, found: Document, name: str) -> Tuning:
    place = found.place(("models", name))
    margin = entry.margin and (entry.margin[0], entry.margin[1], entry.margin[2])
    return Tuning(
        Candidate(**entry.serve.model_dump()),
        entry.model,
        entry.machine.cpu,
        entry.machine.cores,
        entry.objective,
        margin or None,
        entry.confidence,
        entry.date,
        entry.tool,
        f"{place.file}:{place.line}",
    )


def write(folder: Path, found: Mapping[str, Tuning]) -> Path:
    """Put entries, by model@target, into a folder's `tuning.yaml`, and keep all others.

    The file is replaced whole, or not at all. SpecError where the file that is there is damaged.
    """
    import yaml

    problems: list[Problem] = []
    entries = {**read(folder, problems), **found}
    if problems:
        raise SpecError(f"{folder / TUNING} cannot be added to:", problems)
    models = {name: _entry(entries[name]) for name in sorted(entries)}
    text = yaml.safe_dump({"version": 1, "models": models}, sort_keys=False, allow_unicode=True)
    path = folder / TUNING
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=f".{TUNING}.", delete=False
        ) as file:
            file.write("# Written by `repo-builder tune`; the next build uses it.\n" + text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as failure:
        raise OutputError(f"{path}: {failure.strerror}; {disk_fix(failure)}") from None
    return path


def _entry(one: Tuning) -> dict[str, Any]:
    return {
        "model": one.model,
        "machine": {"cpu": one.cpu, "cores": one.cores},
        "objective": one.objective,
        "serve": asdict(one.candidate),
        "margin": one.margin and list(one.margin),
        "confidence": one.confidence,
        "date": one.date,
        "tool": one.tool,
    }
