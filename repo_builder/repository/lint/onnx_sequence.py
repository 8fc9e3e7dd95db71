"""Rules of the onnxruntime backend for sequences: controls and states against the ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.onnx_io import Border
from repo_builder.repository.lint.onnxruntime import readable
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.sequence import control_type, type_name
from repo_builder.repository.lint.types import Hit

_BACKEND = "onnxruntime_backend/src/onnxruntime.cc"


def control(model: Model) -> Iterator[Hit]:
    """A control is an input of the model, of the control's type, with one value a row."""
    for _, io in readable(model):
        for i, tensor in enumerate(model.config.sequence_batching.control_input):
            for j, part in enumerate(tensor.control):
                path = f"sequence_batching.control_input[{i}]"
                if tensor.name not in io.required:
                    fix = did_you_mean(tensor.name, io.required)
                    yield Hit(f"the model has no input '{tensor.name}'", f"{path}.name", fix)
                    break
                border = io.required[tensor.name]
                yield from _control(model, part, border, f"{path}.control[{j}]")


def _control(model: Model, part: Any, border: Border, path: str) -> Iterator[Hit]:
    """ValidateBooleanSequenceControl and ValidateTypedSequenceControl."""
    row = list(border.shape or ())[int(model.batched) :]
    if row != [1]:
        yield Hit(f"'{border.name}' has dims {row} in the model; a control has [1]", path)
    given = control_type(part)
    if given and given != border.dtype:
        yield Hit(f"is TYPE_{given}, but '{border.name}' is TYPE_{border.dtype} in the model", path)


def state(model: Model) -> Iterator[Hit]:
    """A state is an input and an output of the model; Triton only counts: requests fail."""
    for _, io in readable(model):
        for i, pair in enumerate(model.config.sequence_batching.state):
            path = f"sequence_batching.state[{i}]"
            ends = (
                ("input", pair.input_name, io.required),
                ("output", pair.output_name, io.outputs),
            )
            for kind, name, borders in ends:
                if name not in borders:
                    fix = did_you_mean(name, borders)
                    yield Hit(f"the model has no {kind} '{name}'", f"{path}.{kind}_name", fix)
                    continue
                border = borders[name]
                if border.dtype and type_name(pair) != border.dtype:
                    what = f"'{name}' is TYPE_{border.dtype} in the model"
                    yield Hit(what, f"{path}.data_type")
                if border.shape is not None and not _fits(model, pair.dims, border.shape):
                    what = f"{list(pair.dims)} does not fit '{name}', {list(border.shape)}"
                    yield Hit(what, f"{path}.dims")


def _fits(model: Model, dims: Sequence[int], shape: Sequence[int]) -> bool:
    full = [-1, *dims] if model.batched else list(dims)
    same = (-1 in (a, b) or a == b for a, b in zip(full, shape, strict=False))
    return len(full) == len(shape) and all(same)


RULES = (
    Rule("onnx-control", "error", "backend", _BACKEND, control),
    Rule("onnx-state", "warning", "sense", _BACKEND, state),
)
