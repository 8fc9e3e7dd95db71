"""Rules of the openvino backend: parameters and batching."""

from __future__ import annotations

import re
from collections.abc import Iterator

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint import library, numbers, release
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_BACKEND = "openvino_backend/src/openvino.cc"
_DEVICE_FROM = (25, 10)
_COMPILATION = "COMPILATION_NUM_THREADS"
_KNOWN = (
    "TARGET_DEVICE",
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "INFERENCE_NUM_THREADS",
    _COMPILATION,
    "HINT_BF16",
    "ENABLE_BATCH_PADDING",
    "RESHAPE_IO_LAYERS",
    "SKIP_OV_DYNAMIC_BATCHSIZE",
    "CPU_EXTENSION_PATH",
    "TRITON_BATCH_STRATEGY_PATH",
    "EXECUTION_ENV_PATH",
)
_VALUES: dict[str, tuple[tuple[str, ...], bool]] = {
    "NUM_STREAMS": (("auto", "numa"), True),
    "PERFORMANCE_HINT": (("latency", "throughput", "cumulative_throughput"), False),
    "INFERENCE_NUM_THREADS": ((), True),
    "HINT_BF16": (("yes",), False),
}
"""Parameter -> the words that it may be, and whether it may be a number."""


def _here(model: Model) -> bool:
    return model.backend == "openvino"


def parameter_value(model: Model) -> Iterator[Hit]:
    """Parameters have values that the backend accepts; numbers are whole ones of 32 bits."""
    if not _here(model):
        return
    for key, (words, number) in _VALUES.items():
        value = model.parameter(key)
        path = f'parameters["{key}"]'
        if not value or value.lower() in words:
            continue
        if not number or not re.fullmatch("[0-9]+", value):
            choices = [word.upper() for word in words] + ["a whole number"] * number
            yield Hit(f"'{value}' is none of {', '.join(choices)}", path)
        elif what := numbers.why_no_number(value):
            yield Hit(what, path)


def compilation_threads(model: Model) -> Iterator[Hit]:
    """OpenVINO's CPU has no COMPILATION_NUM_THREADS; 2026.4 refuses it."""
    if _here(model) and model.parameter(_COMPILATION):
        fix = "remove it; INFERENCE_NUM_THREADS is what there is"
        yield Hit("OpenVINO 2026.4 refuses it", f'parameters["{_COMPILATION}"]', fix)


def device_ignored(model: Model) -> Iterator[Hit]:
    """TARGET_DEVICE is read from Triton 25.10 on; before, the model runs on the CPU."""
    device = (model.parameter("TARGET_DEVICE") or "CPU").upper()
    if _here(model) and device != "CPU" and release.older(model, _DEVICE_FROM):
        what = "is not read by the C++ backend before Triton 25.10: the model runs on the CPU"
        yield Hit(what, 'parameters["TARGET_DEVICE"]', "--target names what serves it")


def extension(model: Model) -> Iterator[Hit]:
    """The library of an extension is there."""
    key = "CPU_EXTENSION_PATH"
    name = model.parameter(key)
    if _here(model) and name and (problem := library.problem(name)):
        yield Hit(problem, f'parameters["{key}"]')


def parameter_unknown(model: Model) -> Iterator[Hit]:
    """Parameters that the backend does not read are ignored without a word."""
    if not _here(model):
        return
    for key in sorted(model.config.parameters):
        if key not in _KNOWN and not key.startswith("repo_builder."):
            fix = did_you_mean(key, _KNOWN)
            yield Hit("is not read by openvino", f'parameters["{key}"]', fix)


def batch_set(model: Model) -> Iterator[Hit]:
    """The backend fixes the batch at max_batch_size and refuses requests with fewer rows."""
    if _here(model) and model.batched and model.config.max_batch_size > 1:
        fix = "write max_batch_size: 0 and dims with -1 in front"
        what = "requests with fewer rows are refused"
        yield Hit(what, "max_batch_size", fix)


def warmup_batch(model: Model) -> Iterator[Hit]:
    """A sample is a request a row, and the backend wants max_batch_size rows in each."""
    padded = (model.parameter("ENABLE_BATCH_PADDING") or "").lower() == "yes"
    if not _here(model) or model.config.max_batch_size <= 1 or padded:
        return
    for i, sample in enumerate(model.config.model_warmup):
        if sample.batch_size and sample.count:
            fix = "write max_batch_size: 0 and dims with -1 in front"
            yield Hit("fails: each request of a sample has one row", f"model_warmup[{i}]", fix)


def batch_padding(model: Model) -> Iterator[Hit]:
    """Batch padding keeps stale state between requests: errors come and go."""
    if _here(model) and (model.parameter("ENABLE_BATCH_PADDING") or "").lower() == "yes":
        fix = "write max_batch_size: 0 and dims with -1 in front"
        yield Hit("fails some requests", 'parameters["ENABLE_BATCH_PADDING"]', fix)


RULES = (
    Rule("openvino-parameter-value", "error", "backend", _BACKEND, parameter_value),
    Rule("openvino-compilation", "error", "backend", "openvino", compilation_threads),
    Rule("openvino-device", "warning", "sense", _BACKEND, device_ignored),
    Rule("openvino-extension", "error", "backend", _BACKEND, extension),
    Rule("openvino-parameter-unknown", "warning", "sense", _BACKEND, parameter_unknown),
    Rule("openvino-batch", "warning", "c++", "server#7363", batch_set),
    Rule("openvino-warmup", "error", "c++", _BACKEND, warmup_batch),
    Rule("openvino-padding", "warning", "sense", _BACKEND, batch_padding),
)
