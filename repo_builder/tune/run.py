"""From a built model to a recommendation: search, measure, keep, until it is decided."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder import __version__
from repo_builder.base import digest, machine
from repo_builder.run.store import Store
from repo_builder.spec.candidate import Candidate
from repo_builder.spec.tuning import Tuning
from repo_builder.tune import inputs
from repo_builder.tune.block import Bench
from repo_builder.tune.configured import current
from repo_builder.tune.record import Record, machine_facts
from repo_builder.tune.rules.search import Search
from repo_builder.tune.rules.space import Place, candidates
from repo_builder.tune.rules.types import Measure, Objective, Observation, Recommendation
from repo_builder.tune.server import Servable

Told = Callable[[Measure, int, float, float], None]
"""Is told what is measured next, how many looks there were, and seconds measured and allowed."""


@dataclass(frozen=True)
class Asked:
    """What a tuning is to find: for which objective, on how many cores, in how many seconds."""

    objective: Objective
    cores: int
    seconds: float
    confidence: float = 0.95


def choose(
    bench: Bench,
    model: Servable,
    rows: inputs.Arrays | None,
    asked: Asked,
    store: Store,
    tell: Told,
    *,
    again: bool = False,
) -> Recommendation:
    """Measure ways to serve a model, and recommend one. What was measured before is not again.

    `rows` are inputs to send; None: made up. A model with files can be served by all its runtimes
    and through shared memory; one on a Triton elsewhere only as that one has it. UsageError where
    inputs cannot be made up, ServeError where Triton is lost again and again.
    """
    runtimes = list(model.configs)
    first = model.configs[runtimes[0]]
    largest = max(int(config.get("max_batch_size", 0)) for config in model.configs.values())
    place = Place(asked.cores, runtimes, largest, shared_memory=bool(model.folders))
    search = Search(
        candidates(place),
        asked.objective,
        cores=asked.cores,
        current=current(first, asked.cores),
        budget_s=asked.seconds,
        confidence=asked.confidence,
    )
    elsewhere = "" if model.folders else f"{bench.server.url} {bench.server.version}"
    record = Record(store, _shaped_by(model, elsewhere, asked.cores))
    if again:
        record.forget()
    seen: list[Observation] = record.read()
    with tempfile.TemporaryDirectory(prefix="repo-builder-tune-") as scratch:
        sent = Path(scratch) / "inputs.npz"
        inputs.write(inputs.made(first, rows), sent)
        while True:
            wanted = search.next(seen)
            if isinstance(wanted, Recommendation):
                return wanted
            tell(wanted, len(seen), search.measured_s, search.budget_s)
            one = bench.block(model, sent, wanted)
            record.add(one)
            seen.append(one)


def _shaped_by(model: Servable, server: str, cores: int) -> dict[str, Any]:
    """All that figures depend on: files, configs, machine, and the Triton elsewhere."""
    files = {
        runtime: {
            str(path.relative_to(folder)): digest.of_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "config.pbtxt"
        }
        for runtime, folder in model.folders.items()
    }
    configs = {
        runtime: {key: config.get(key) for key in ("name", "input", "output", "backend")}
        for runtime, config in model.configs.items()
    }
    return {"files": files, "configs": configs, "server": server, **machine_facts(cores)}


def entry(found: Recommendation, asked: Asked, model: str) -> Tuning | None:
    """What a `tuning.yaml` is to say of a recommendation; `model` is the digest of the built model.

    None where nothing was found that is better than the current way.
    """
    if found.outcome != "better" or found.candidate is None:
        return None
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return Tuning(
        candidate=found.candidate,
        model=model,
        cpu=machine.cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        objective=str(asked.objective),
        margin=found.margin,
        confidence=found.confidence,
        date=today,
        tool=__version__,
    )


def as_json(name: str, found: Recommendation) -> dict[str, Any]:
    """A recommendation as plain JSON types."""

    def plain(one: Candidate | None) -> Mapping[str, Any] | None:
        return None if one is None else one.as_json()

    def numbers(values: Sequence[float] | None) -> list[float] | None:
        return None if values is None else list(values)

    return {
        "model": name,
        "outcome": found.outcome,
        "serve": plain(found.candidate),
        "current": plain(found.current),
        "unit": found.unit,
        "value": numbers(found.value),
        "margin": numbers(found.margin),
        "confidence": found.confidence,
        "equal": [one.as_json() for one in found.equal],
        "measured_s": found.measured_s,
        "sweep_s": found.sweep_s,
        "complete": found.complete,
        "evidence": list(found.evidence),
    }
