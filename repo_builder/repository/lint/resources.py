"""Rules of sense: do threads, instances and memory fit the device."""

from __future__ import annotations

from collections.abc import Iterator

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_THREADS = "onnxruntime_backend#245, server#7213"


def threads_unset(model: Model) -> Iterator[Hit]:
    """Each onnxruntime instance takes as many threads as there are cores, unless told otherwise."""
    if model.backend != "onnxruntime" or model.instances() < 2:
        return
    if model.parameter("intra_op_thread_count") in (None, "0"):
        what = f"{model.instances()} instances with a thread for each core, each"
        field = "instance_group" if model.config.instance_group else ""
        yield Hit(what, field, 'write the parameter "intra_op_thread_count"')


def threads_above_cores(model: Model) -> Iterator[Hit]:
    """Threads times instances above the device's cores slow everything down."""
    if model.target is None or model.target.cores < 1:
        return
    cores = model.target.cores
    if model.backend == "onnxruntime":
        key, threads = "intra_op_thread_count", _number(model, "intra_op_thread_count")
        total = threads * model.instances()
    elif model.backend == "openvino":
        key, total = "INFERENCE_NUM_THREADS", _number(model, "INFERENCE_NUM_THREADS")
    else:
        return
    if total > cores:
        what = f"{total} threads on the {cores} cores of {model.target.name}"
        yield Hit(what, f'parameters["{key}"]', "fewer threads or instances")


def _number(model: Model, key: str) -> int:
    value = model.parameter(key) or "0"
    return int(value) if value.isdigit() else 0


def memory(model: Model) -> Iterator[Hit]:
    """The weights of all instances of all loaded versions should fit the device's memory."""
    if model.target is None or not model.target.memory.size_mb or not model.backend:
        return
    files = [p for v in model.loaded for p in model.versions[v].rglob("*") if p.is_file()]
    weights = sum(p.stat().st_size for p in files) * max(model.instances(), 1) / 2**20
    if weights > model.target.memory.size_mb:
        room = model.target.memory.size_mb
        what = f"{weights:.0f} MB of weights, {model.target.name} has {room:.0f} MB"
        yield Hit(what, "instance_group", "fewer instances or versions")


RULES = (
    Rule("threads-unset", "warning", "sense", _THREADS, threads_unset),
    Rule("threads-above-cores", "warning", "sense", _THREADS, threads_above_cores),
    Rule("memory", "warning", "sense", "docs/lint.md", memory),
)
