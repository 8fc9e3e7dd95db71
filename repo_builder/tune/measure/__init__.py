"""Measures what a build made on this machine: model x precision x runtime x batch.

`subjects` finds what of a build runs here; a visit (`_visit`; `_served` through a genuine Triton)
times one of them in a fresh process, with the timing core of `steps/`; `rounds` says who is visited
next and when it is enough, from figures alone; `compare` holds a run against an earlier one; `show`
and `page` show it. The path is `measure` below. What a *build* measures, for its gates and its
report, belongs to `steps/profile.py`; what is tried to serve a model better to the rest of `tune/`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from repo_builder.base import console, energy, hardware, machine
from repo_builder.base.errors import ModelError, OutputError, RepoBuilderError
from repo_builder.run import isolated
from repo_builder.run.store import Store
from repo_builder.tune.measure import _visit, rounds, subjects
from repo_builder.tune.measure.rounds import Limits, Rounds
from repo_builder.tune.measure.types import Measured, Subject, Visit, of_json

__all__ = ["BATCHES", "Measured", "Request", "measure", "read"]

BATCHES = (1, 8, 32)
_RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Request:
    """What to measure and how well.

    `build` is a build's folder; `only` are patterns of `model@target`. Intervals of rows a second
    shall be no wider than `within` to each side, as a share; after `seconds` in all it ends anyhow,
    once there are enough rounds for an interval. `visit_s` is the time of a batch size in a visit,
    `threads` 0 leaves their number to the runtime. `served` also asks what is published through
    Triton, by one caller and by two for each core.
    """

    build: Path
    store: Path
    only: tuple[str, ...] = ()
    batches: tuple[int, ...] = BATCHES
    within: float = 0.03
    seconds: float = 120.0
    visit_s: float = 0.1
    threads: int = 0
    served: bool = False


@dataclass
class Shown:
    """Where progress goes; nowhere by default."""

    round: Callable[[Rounds, Sequence[Subject]], None] = field(default=lambda _rounds, _open: None)


def measure(request: Request, shown: Shown | None = None) -> Measured:
    """Measure what of a build runs here. Ctrl-C ends it early: what was measured is in the answer.

    Raises OutputError where the folder is no build, or nothing in it runs on this machine.
    """
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    begun = time.monotonic()
    before = hardware.state()
    with tempfile.TemporaryDirectory(prefix="repo-builder-measure-") as folder:
        store = Store(request.store)
        found = subjects.of(
            request.build,
            store,
            Path(folder),
            only=request.only,
            threads=request.threads,
            callers=(1, 2 * machine.cores_allowed()) if request.served else (),
        )
        left_out = list(found.left_out)
        seen = Rounds([])
        finished = False
        try:
            seen.subjects = _that_load(found.subjects, request, seen, left_out)
            rounds.run(
                seen,
                Limits(request.within, request.seconds),
                lambda subject: _visited(subject, request, left_out),
                time.monotonic,
                (shown or Shown()).round,
            )
            finished = True
        except KeyboardInterrupt:
            console.say("ended early; what was measured so far follows")
    if not seen.subjects and finished:
        raise OutputError(f"{request.build}: nothing in it runs: {'; '.join(left_out)}")
    return Measured(
        at=at,
        seconds=round(time.monotonic() - begun, 3),
        rounds=seen.done,
        within=request.within,
        hardware=hardware.hardware(),
        before=before,
        after=hardware.state(),
        tools={name: metadata.version(name) for name in _RUNTIMES if _installed(name)},
        cells=seen.cells(request.within),
        left_out=tuple(left_out),
        notes=tuple(_notes()),
        finished=finished,
        threads=request.threads,
    )


def read(file: Path) -> Measured:
    """A run that was written as JSON; OutputError where it cannot be read."""
    fix = "give a file that `repo-builder measure --json` wrote"
    try:
        return of_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as failure:
        raise OutputError(f"{file}: {(failure.strerror or '').lower()}; {fix}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"{file}: is no run of `measure` of this version; {fix}") from None


def _that_load(
    found: Sequence[Subject], request: Request, seen: Rounds, left_out: list[str]
) -> list[Subject]:
    """Those that load and run; each batch size once, in a process that does nothing else."""
    good: list[Subject] = []
    for subject in found:
        if subject.served:
            good.append(subject)
            continue
        try:
            taken = isolated.call(subject.folder, _visit.sizes, subject, request.batches)
            for batch in taken:
                seen.memory[subject, batch] = isolated.call(
                    subject.folder, _visit.remembered, subject, batch
                )
        except ModelError as failure:
            left_out.append(f"{subject.model}@{subject.target} {subject.precision}: {failure}")
            continue
        good.append(subject)
        refused = sorted(set(request.batches) - set(taken))
        if refused:
            sizes = ", ".join(map(str, refused))
            left_out.append(
                f"{subject.model}@{subject.target} {subject.precision}: batches of {sizes}, which "
                "it does not take, or which take longer than 2.5 s"
            )
    return good


def _visited(subject: Subject, request: Request, left_out: list[str]) -> Visit | None:
    """None, and a word in `left_out`, where it fails: the others go on."""
    how = (subject, request.batches, request.visit_s)
    try:
        if subject.served:
            from repo_builder.tune.measure import _served

            return _served.timed(*how)
        return isolated.call(subject.folder, _visit.timed, *how)
    except RepoBuilderError as failure:
        said = " ".join(str(failure).split())
        left_out.append(
            f"{subject.model}@{subject.target} {subject.precision} {subject.runtime}: {said}"
        )
        return None


def _notes() -> list[str]:
    said = []
    if why := energy.why_not():
        said.append(f"no rows per joule: {why}")
    return said


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
