"""Rules of warmup requests: TritonModelInstance::GenerateWarmupData."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.sequence import control_type, type_name
from repo_builder.repository.lint.types import Edit, Hit

_INSTANCE = "core/src/backend_model_instance.cc"
_BACKEND = "onnxruntime_backend/src/onnxruntime.cc"
_CHECKING = ("onnxruntime",)
"""Backends that run a sample with just what it brings; a model.py may do without."""
_STRING = 13
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8, 13: 4, 14: 2}
"""DataType -> bytes of an element; a string is counted as its length, 4 bytes."""


def _inputs(model: Model) -> Iterator[tuple[str, Any, str, Any]]:
    """Path, sample, name and input of every sample that Triton does not skip."""
    for i, sample in enumerate(model.config.model_warmup):
        if sample.batch_size:
            for name in sorted(sample.inputs):
                path = f'model_warmup[{i}].inputs["{name}"]'
                yield path, sample, name, sample.inputs[name]


def skipped(model: Model) -> Iterator[Hit]:
    """A sample without batch_size is skipped without a word."""
    for i, sample in enumerate(model.config.model_warmup):
        if sample.batch_size == 0:
            path = f"model_warmup[{i}].batch_size"
            yield Hit("is 0, so Triton skips this sample", path, "write 1", Edit(path, "1"))


def variable(model: Model) -> Iterator[Hit]:
    """A sample's dims have no -1."""
    for path, _, _, given in _inputs(model):
        if any(d < 0 for d in given.dims):
            yield Hit("-1 is no size of a real request", f"{path}.dims", "write a real size")


def data_unset(model: Model) -> Iterator[Hit]:
    """Every input of a sample says which data: zero, random or a file."""
    for path, _, _, given in _inputs(model):
        if given.WhichOneof("input_data_type") is None:
            edit = Edit(f"{path}.value.zero_data", "true")
            yield Hit("needs zero_data, random_data or input_data_file", path, edit=edit)


def warmup_file(model: Model) -> Iterator[Hit]:
    """A data file lies under warmup/ and holds enough bytes."""
    for path, _, _, given in _inputs(model):
        if given.WhichOneof("input_data_type") == "input_data_file":
            yield from data_file(model, "warmup", given, given.input_data_file, path)


def data_file(model: Model, folder: str, given: Any, name: str, path: str) -> Iterator[Hit]:
    """A file of `folder` must hold the bytes that `given`, with data_type and dims, needs."""
    file = model.folder / folder / name
    need = math.prod(given.dims) * _BYTES.get(given.data_type, 1)
    if not file.is_file():
        yield Hit(f"no file {folder}/{name}", path)
    elif given.data_type != _STRING and file.stat().st_size < need:
        yield Hit(f"needs {need} bytes, the file has {file.stat().st_size}", path)


def untyped(model: Model) -> Iterator[Hit]:
    """Every input of a sample has a data type."""
    for path, _, _, given in _inputs(model):
        if given.data_type == 0:
            yield Hit("has no data_type", path)


def shape_differs(model: Model) -> Iterator[Hit]:
    """A sample's inputs have types and shapes that the model takes, and all of them are there."""
    tensors = {t.name: t for t in model.config.input}
    for path, _, name, given in _inputs(model):
        if name not in tensors or any(d < 0 for d in given.dims):
            continue
        want = tensors[name]
        if given.data_type != want.data_type:
            yield Hit("has another data_type than the input", f"{path}.value.data_type")
        fits = len(want.dims) == len(given.dims) and all(
            a in (-1, b) for a, b in zip(want.dims, given.dims, strict=True)
        )
        if not fits:
            what = f"{list(given.dims)} does not fit the input's {list(want.dims)}"
            yield Hit(what, f"{path}.value.dims")
    twice = len(tensors) < len(model.config.input)
    for i, sample in enumerate(model.config.model_warmup):
        if sample.batch_size and twice:
            what = "lacks an input: one is listed twice, and Triton counts both"
            yield Hit(what, f"model_warmup[{i}].inputs")
        missing = [n for n, t in tensors.items() if n not in sample.inputs and not t.optional]
        if sample.batch_size and missing:
            yield Hit(f"lacks input '{missing[0]}'", f"model_warmup[{i}].inputs")


def unknown_input(model: Model) -> Iterator[Hit]:
    """A sample's inputs are the model's, or sequence controls; a model.py may ignore others."""
    if model.backend == "python":
        return
    names = {t.name for t in model.config.input}
    names |= {c.name for c in model.config.sequence_batching.control_input}
    for path, _, name, _ in _inputs(model):
        if name not in names:
            yield Hit(f"the model has no input '{name}'", path)


def control_missing(model: Model) -> Iterator[Hit]:
    """A sample brings every sequence control: the batcher, which makes them, does not see it."""
    controls = model.config.sequence_batching.control_input
    used = {control.name: control for control in controls if len(control.control)}
    for i, sample in enumerate(model.config.model_warmup if model.backend in _CHECKING else ()):
        for name, control in used.items() if sample.batch_size else ():
            path = f"model_warmup[{i}].inputs"
            if name not in sample.inputs:
                yield Hit(f"lacks the control '{name}'", path, "give it data_type and dims: [1]")
                continue
            given = sample.inputs[name]
            want = control_type(control.control[0])
            if want and type_name(given) != want:
                yield Hit(f"'{name}' is TYPE_{want}", f'{path}["{name}"].value.data_type')
            if list(given.dims) != [1]:
                what = f"{list(given.dims)} is not the [1] of a control"
                yield Hit(what, f'{path}["{name}"].value.dims')


def state_warmed(model: Model) -> Iterator[Hit]:
    """A model with implicit state is not warmed up: no sequence is there to keep the state."""
    if model.backend in _CHECKING and model.config.sequence_batching.state:
        for i, sample in enumerate(model.config.model_warmup):
            if sample.batch_size:
                what = "fails: a sample is in no sequence, so there is no state"
                yield Hit(what, f"model_warmup[{i}]", "remove it")


def too_large(model: Model) -> Iterator[Hit]:
    """A sample's batch is at most max_batch_size, and 1 where there is no batching."""
    most = max(model.config.max_batch_size, 1)
    for i, sample in enumerate(model.config.model_warmup):
        if sample.batch_size > most:
            yield Hit(f"{sample.batch_size} is above {most}", f"model_warmup[{i}].batch_size")


RULES = (
    Rule("warmup-skipped", "warning", "sense", _INSTANCE, skipped),
    Rule("warmup-variable", "error", "core", _INSTANCE, variable),
    Rule("warmup-data", "error", "core", _INSTANCE, data_unset),
    Rule("warmup-file", "error", "core", _INSTANCE, warmup_file),
    Rule("warmup-untyped", "error", "core", _INSTANCE, untyped),
    Rule("warmup-shape", "error", "backend", _INSTANCE, shape_differs),
    Rule("warmup-unknown-input", "error", "backend", _INSTANCE, unknown_input),
    Rule("warmup-control", "error", "backend", _BACKEND, control_missing),
    Rule("warmup-state", "error", "c++", _BACKEND, state_warmed),
    Rule("warmup-batch", "error", "backend", _INSTANCE, too_large),
)
