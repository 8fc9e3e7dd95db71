"""Builds the plans of a repository on the device, at its first start, while Triton serves already.

Until a plan is there its model is served by ONNX Runtime, as its config.pbtxt says. Then the plan
is put beside `model.onnx`, and Triton loads the model again with `configs/tensorrt.pbtxt`; the old
one answers until the new one is ready. Plans are kept under a key of model, request, TensorRT and
GPU, so that a later start builds nothing. A build that is cut off is begun again at the model it
was at; timings of kernels from finished models are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from repo_builder.base import console, digest
from repo_builder.base.errors import (
    BuildFailed,
    ModelError,
    Problem,
    RepoBuilderError,
    ServeError,
    UsageError,
)
from repo_builder.trt import engine, probe, record, reload, request
from repo_builder.trt.record import CONFIG, PLAN, Device, Record
from repo_builder.trt.request import Request
from repo_builder.trt.timings import Timings, replace

# Triton may end because of a plan, or power may be lost: a device must not start again for ever.
_TRIES = 3
State = Literal["waiting", "building", "built", "cached", "failed"]


@dataclass
class Status:
    """What the status file says of one model."""

    state: State = "waiting"
    phase: str = ""
    done: int = 0
    steps: int = 0
    serving: Literal["onnxruntime", "tensorrt"] = "onnxruntime"
    reason: str = ""


@dataclass
class StatusFile:
    """A JSON file that always is whole: {model: Status}; `None` keeps it in memory only."""

    path: Path | None
    models: dict[str, Status] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file anew, in one step for whoever reads it."""
        if self.path is not None:
            content = {name: asdict(status) for name, status in sorted(self.models.items())}
            replace(self.path, (json.dumps(content, indent=2) + "\n").encode())


def run(
    models: Path,
    cache: Path,
    *,
    status: Path | None = None,
    triton: str = "",
    find: Callable[[], Device] = lambda: probe.device(engine.version()),
) -> dict[str, Status]:
    """Build what `models` (a Triton repository) asks for, and let the Triton at `triton` serve it.

    `triton` is host:port of its HTTP; `cache` keeps plans from start to start; `find` finds what
    this machine is. UsageError where there is no GPU, no TensorRT, or
    another run; BuildFailed, when all is done, where a model stays with ONNX Runtime.
    """
    wanted = [
        path
        for path in sorted(models.glob(f"*/*/{request.FILE}"))
        if (path.parents[1] / "configs" / CONFIG).is_file()  # else its builder made the plan
    ]
    file = StatusFile(status, {path.parents[1].name: Status() for path in wanted})
    file.save()
    try:
        here = find()
    except RepoBuilderError as failure:
        for one in file.models.values():
            one.state, one.reason = "failed", str(failure)
        file.save()
        raise
    failed = []
    with _locked(cache):
        for path in wanted:
            name = path.parents[1].name
            try:
                kept = _one(path.parent, cache, here, file, name)
                _serve(path.parents[1], kept, triton, file, name)
            except (RepoBuilderError, OSError) as failure:
                reason = str(failure)
                file.models[name].state, file.models[name].reason = "failed", reason
                failed.append(Problem(reason, field=name))
                console.error(f"{name}: {reason}")
                file.save()
    if failed:
        raise BuildFailed("some models have no plan that serves", failed)
    return file.models


def key(wanted: Request, here: Device) -> str:
    """Where the plan of a request lies in the cache of a device."""
    return digest.of_json({"request": wanted.to_json(), "device": asdict(here)})


def _one(version: Path, cache: Path, here: Device, file: StatusFile, name: str) -> Path:
    """Put the plan into the version's folder, from the cache or built now; its place there."""
    wanted = request.read(version)
    kept = cache / key(wanted, here)
    status = file.models[name]
    if _is_intact(kept, wanted, here):
        status.state = "cached"
    else:
        status.state = "building"
        file.save()
        console.say(f"{name}: building the TensorRT plan")
        started = time.monotonic()
        _build(version / "model.onnx", wanted, here, kept, _reporter(file, name))
        status.state = "built"
        console.say(f"{name}: built in {console.seconds(time.monotonic() - started)}")
    file.save()
    for made in (PLAN, record.FILE):
        replace(version / made, (kept / made).read_bytes())
    return kept


def _is_intact(kept: Path, wanted: Request, here: Device) -> bool:
    """Whether the cache holds this plan undamaged, and for this model and device."""
    if not kept.is_dir():
        return False
    try:
        if record.read(kept) != describe(kept / PLAN, wanted, here):
            raise ModelError(f"{kept}: a plan of another model or device; build it again")
    except ModelError as failure:
        console.warn(f"{failure}")
        shutil.rmtree(kept)
        return False
    return True


def _build(
    model: Path,
    wanted: Request,
    here: Device,
    kept: Path,
    report: Callable[[engine.Progress], None],
) -> None:
    timings = Timings(kept.parent, here)
    built = engine.build(model, wanted, timing_cache=timings.read(), report=report)
    timings.write(built.timing_cache)
    unfinished = kept.with_name(f"{kept.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    replace(unfinished / PLAN, built.plan)
    describe(unfinished / PLAN, wanted, here).write(unfinished)
    unfinished.rename(kept)


def describe(plan: Path, wanted: Request, here: Device) -> Record:
    """The portability record of a plan that was built on `here`."""
    return Record(
        plan=digest.of_file(plan),
        model=wanted.model,
        tensorrt=here.tensorrt,
        compute_capability=here.compute_capability,
        gpu=here.gpu,
        platform=here.platform,
        version_compatible=wanted.version_compatible,
        hardware=wanted.hardware,
        dla_core=wanted.dla_core,
    )


def _reporter(file: StatusFile, name: str) -> Callable[[engine.Progress], None]:
    """Writes outermost phases to the log and all steps to the status file, once a second."""
    last = 0.0

    def report(progress: engine.Progress) -> None:
        nonlocal last
        status = file.models[name]
        status.phase, status.done, status.steps = progress.phase, progress.done, progress.steps
        if not progress.parent and progress.done in (0, progress.steps):
            console.say(f"{name}: {progress.phase} {progress.done}/{progress.steps}")
        elif time.monotonic() - last < 1:
            return
        last = time.monotonic()
        file.save()

    return report


def _serve(model: Path, kept: Path, triton: str, file: StatusFile, name: str) -> None:
    """Let Triton load the model with its TensorRT config; it keeps the old one if that fails."""
    if not triton:
        return
    tries = kept / "tries"
    begun = len(tries.read_bytes()) if tries.exists() else 0
    if begun >= _TRIES:
        raise ServeError(f"Triton ended {begun} times over this plan; remove {kept} to try again")
    replace(tries, b"." * (begun + 1))
    try:
        reload.load(model, model / "configs" / CONFIG, triton)
    except (ModelError, UsageError):  # Triton lives
        tries.unlink()
        raise
    tries.unlink()
    file.models[name].serving = "tensorrt"
    console.say(f"{name}: served by TensorRT from now on")
    file.save()


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One run for each cache; the lock goes with the process, however it ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another run is building plans in {cache}; wait for it") from None
        yield
