"""`run-pipeline`: run all stages of a pipeline on its sample, and measure how long each takes.

Stages run one after another in this process, in the runtimes that serve them, without Triton: what
Triton adds (a copy and a message for each stage in Python, queues) is not in these figures.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base import machine
from repo_builder.base.errors import DataError, ModelError
from repo_builder.spec.types import StageKind
from repo_builder.steps import _runtimes
from repo_builder.steps._data import Array
from repo_builder.steps._failures import explained

SECONDS = 0.5
MIN_RUNS = 10
LONGEST = 10.0
"""Seconds after which it ends even with fewer runs."""

BLOCKS = 20
"""Parts of the runs, one after the other, whose medians are compared."""


@dataclass(frozen=True)
class Stage:
    """`inputs` maps tensors to (stage, output), or ("", input of the pipeline)."""

    name: str
    kind: StageKind
    runtime: str
    inputs: Mapping[str, tuple[str, str]]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Params:
    """Stages in an order in which they can run; `threads` as in `verify`."""

    stages: tuple[Stage, ...]
    outputs: Mapping[str, tuple[str, str]]
    threads: int = 0


class Inputs(dict[str, Path]):
    """`sample`: a folder for each input with one file in it. `stage NAME`: the stage's model."""


@dataclass(frozen=True)
class Timing:
    """One stage in ms: its mean over the middle half of all runs, so that stages add up."""

    name: str
    kind: StageKind
    ms: float


@dataclass(frozen=True)
class Facts:
    """`p50_ms` and `p95_ms` are of all stages together; `shapes` are those of the outputs.

    `spread` is that of the medians of `BLOCKS` parts of the runs, `at` when they began, in UTC.
    """

    runs: int
    stages: tuple[Timing, ...]
    p50_ms: float
    p95_ms: float
    shapes: Mapping[str, tuple[int, ...]]
    spread: float
    conditions: machine.Conditions
    at: str


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `pipeline.json`, which says how the stages are joined.

    ModelError names the stage that fails. DataError: the sample cannot be read.
    """
    samples = {
        path.name: sample(next(iter(path.iterdir()))) for path in sorted(inputs["sample"].iterdir())
    }
    runners = {
        stage.name: _load(stage, inputs[f"stage {stage.name}"], params) for stage in params.stages
    }
    answer, _ = _once(params, runners, samples)
    times: list[list[float]] = []
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    watch = machine.Watch()
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < LONGEST:
        if spent > SECONDS and len(times) >= MIN_RUNS:
            break
        times.append(_once(params, runners, samples)[1])
    conditions = watch.conditions()
    figures = 1e3 * np.array(times)
    totals = figures.sum(axis=1)
    parts = np.array_split(totals, min(BLOCKS, len(totals)))
    middle = figures[np.argsort(totals)][len(totals) // 4 : -(len(totals) // 4)].mean(axis=0)
    text = json.dumps(asdict(params), indent=2, sort_keys=True) + "\n"
    (out / "pipeline.json").write_text(text, encoding="utf-8")
    return Facts(
        runs=len(times),
        stages=tuple(
            Timing(stage.name, stage.kind, float(ms))
            for stage, ms in zip(params.stages, middle, strict=True)
        ),
        p50_ms=float(np.percentile(totals, 50)),
        p95_ms=float(np.percentile(totals, 95)),
        shapes={name: answer[wire].shape for name, wire in params.outputs.items()},
        spread=machine.spread([float(np.median(part)) for part in parts]),
        conditions=conditions,
        at=at,
    )


def sample(path: Path) -> Array:
    """One row: an array of a .npy file, or the content of any other file as a string."""
    if path.suffix != ".npy":
        return np.array([[path.read_bytes()]], dtype=object)
    with explained(f"{path.name} is no .npy array", "save it with numpy.save", DataError):
        return np.asarray(np.load(path, allow_pickle=False))


def _once(
    params: Params, runners: Mapping[str, Any], samples: Mapping[str, Array]
) -> tuple[dict[tuple[str, str], Array], list[float]]:
    """Every tensor by (stage, output), and the seconds that each stage took."""
    tensors = {("", name): array for name, array in samples.items()}
    seconds = []
    for stage in params.stages:
        feeds = {name: tensors[wire] for name, wire in stage.inputs.items()}
        shapes = ", ".join(f"{n} {a.dtype}{list(a.shape)}" for n, a in feeds.items())
        begun = time.perf_counter()
        with explained(f"step '{stage.name}' fails on {shapes}", "check the sample", ModelError):
            outputs = runners[stage.name].run(feeds)
        seconds.append(time.perf_counter() - begun)
        tensors.update({(stage.name, name): array for name, array in outputs.items()})
    return tensors, seconds


def _load(stage: Stage, folder: Path, params: Params) -> Any:
    if stage.runtime != "python":
        return _runtimes.load(folder, stage.runtime, _runtimes.Options(params.threads, spin=True))
    # As Triton's stub does it: the version's folder is a package, and `stage.py` a part of it.
    package = types.ModuleType(f"stage_{len(sys.modules)}")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.stage").Stage(folder)
