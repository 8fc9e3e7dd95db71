"""Rules of inputs and outputs: ValidateIOShape and its callers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_UTILS = "core/src/model_config_utils.cc"
_ONNXRUNTIME = "onnxruntime_backend/src/onnxruntime.cc"
_COUNTING = ("onnxruntime", "openvino")
_FIX_DIM = "-1 is any size"


def _tensors(model: Model) -> Iterator[tuple[str, Any]]:
    for kind in ("input", "output"):
        for i, tensor in enumerate(getattr(model.config, kind)):
            yield f"{kind}[{i}]", tensor


def io_name(model: Model) -> Iterator[Hit]:
    """Every input and output needs a name."""
    for path, tensor in _tensors(model):
        if not tensor.name:
            yield Hit("has no name", path)


def io_twice(model: Model) -> Iterator[Hit]:
    """A name stands for one input or output; Triton keeps the first, but asks for both inputs."""
    yield from _twice(model, "output")
    if model.backend not in _COUNTING:
        yield from _twice(model, "input")


def input_twice(model: Model) -> Iterator[Hit]:
    """The onnxruntime and openvino backends only count inputs: one listed twice hides another."""
    if model.backend in _COUNTING:
        yield from _twice(model, "input")


def _twice(model: Model, kind: str) -> Iterator[Hit]:
    names = [t.name for t in getattr(model.config, kind)]
    for i, name in enumerate(names):
        if name and name in names[:i]:
            yield Hit(f"'{name}' is listed twice", f"{kind}[{i}].name", "remove one")


def io_type(model: Model) -> Iterator[Hit]:
    """Every input and output needs a data type."""
    for path, tensor in _tensors(model):
        if tensor.data_type == 0:
            yield Hit("has no data_type", path)


def dims_empty(model: Model) -> Iterator[Hit]:
    """dims must not be empty."""
    for path, tensor in _tensors(model):
        if not tensor.dims:
            fix = "a scalar is dims: [1]" + (" reshape {}" if model.batched else "")
            yield Hit("is empty", f"{path}.dims", fix)


def dims_value(model: Model) -> Iterator[Hit]:
    """Every dimension is -1 or at least 1."""
    for path, tensor in _tensors(model):
        for field, dims in (("dims", tensor.dims), ("reshape.shape", tensor.reshape.shape)):
            wrong = [d for d in dims if d < 1 and d != -1]
            if wrong:
                yield Hit(f"{wrong[0]} is no size", f"{path}.{field}", _FIX_DIM)


def reshape_empty(model: Model) -> Iterator[Hit]:
    """An empty reshape, a scalar for each row, needs a batch dimension."""
    for path, tensor in _tensors(model):
        if (
            tensor.HasField("reshape")
            and not tensor.reshape.shape
            and model.config.max_batch_size == 0
        ):
            fix = "remove it: dims: [1] is enough"
            yield Hit("is empty, but max_batch_size is 0", f"{path}.reshape", fix)


def reshape_count(model: Model) -> Iterator[Hit]:
    """A reshape keeps the number of elements, also between each two dimensions of any size."""
    for path, tensor in _tensors(model):
        if not tensor.HasField("reshape") or any(d < 1 and d != -1 for d in tensor.dims):
            continue
        ours, theirs = _segments(tensor.dims), _segments(tensor.reshape.shape)
        if ours != theirs:
            what = f"{list(tensor.reshape.shape)} has not as many elements as {list(tensor.dims)}"
            yield Hit(what, f"{path}.reshape.shape")


def _segments(dims: Sequence[int]) -> list[int]:
    """The products of the sizes between the -1s: [2, 4, -1, 6] -> [8, 6]."""
    segments: list[list[int]] = [[]]
    for dim in dims:
        if dim == -1:
            segments.append([])
        else:
            segments[-1].append(dim)
    return [math.prod(segment) for segment in segments]


def format_dims(model: Model) -> Iterator[Hit]:
    """FORMAT_NCHW and FORMAT_NHWC need three dims."""
    for i, tensor in enumerate(model.config.input):
        if tensor.format in (1, 2) and len(tensor.dims) != 3:
            yield Hit(f"needs 3 dims, not {len(tensor.dims)}", f"input[{i}].format", "remove it")


def tensorrt_only(model: Model) -> Iterator[Hit]:
    """Shape tensors and non-linear formats exist on TensorRT only."""
    if model.config.platform == "tensorrt_plan":
        for path, tensor in _tensors(model):
            if tensor.is_non_linear_format_io and len(tensor.dims) != 3:
                yield Hit("needs 3 dims", f"{path}.is_non_linear_format_io")
        return
    for path, tensor in _tensors(model):
        for field in ("is_shape_tensor", "is_non_linear_format_io"):
            if getattr(tensor, field):
                yield Hit("exists on TensorRT only", f"{path}.{field}", "remove it")


def batch_input(model: Model) -> Iterator[Hit]:
    """A batch input has one source among the inputs, and is INT32 or FP32."""
    names = [t.name for t in model.config.input]
    for i, made in enumerate(model.config.batch_input):
        path = f"batch_input[{i}]"
        if len(made.source_input) != 1:
            yield Hit(f"needs one source_input, not {len(made.source_input)}", path)
        if made.data_type not in (8, 11):
            yield Hit("must be TYPE_INT32 or TYPE_FP32", f"{path}.data_type")
        for name in made.source_input:
            if name not in names:
                yield Hit(f"there is no input '{name}'", f"{path}.source_input")


def batch_output(model: Model) -> Iterator[Hit]:
    """A batch output has one source among the inputs, and targets among the outputs, once each."""
    inputs = [t.name for t in model.config.input]
    outputs = [t.name for t in model.config.output]
    for i, made in enumerate(model.config.batch_output):
        path = f"batch_output[{i}]"
        if not made.target_name:
            yield Hit("has no target_name, which crashes Triton", path)
        if len(made.source_input) != 1:
            yield Hit(f"needs one source_input, not {len(made.source_input)}", path)
        for name in made.source_input:
            if name not in inputs:
                yield Hit(f"there is no input '{name}'", f"{path}.source_input")
        for at, name in enumerate(made.target_name):
            if name not in outputs:
                yield Hit(f"there is no output '{name}'", f"{path}.target_name")
            elif name in made.target_name[:at]:
                yield Hit(f"'{name}' is named twice", f"{path}.target_name")


def batch_in_dims(model: Model) -> Iterator[Hit]:
    """dims leave out the batch dimension; [-1, ...] in front of all of them is a sign that not."""
    everything = [t for _, t in _tensors(model)]
    first = {t.dims[0] if len(t.dims) > 1 else 1 for t in everything}
    if model.batched and len(everything) > 1 and first == {-1}:
        fix = "leave it out, or write max_batch_size: 0"
        yield Hit("all start with -1: is that the batch dimension?", "input[0].dims", fix)


RULES = (
    Rule("io-name", "error", "core", _UTILS, io_name),
    Rule("input-twice", "warning", "sense", _ONNXRUNTIME, input_twice),
    Rule("io-twice", "warning", "core", "core/src/model.cc", io_twice),
    Rule("io-type", "error", "core", _UTILS, io_type),
    Rule("dims-empty", "error", "core", _UTILS, dims_empty),
    Rule("dims-value", "error", "core", _UTILS, dims_value),
    Rule("reshape-empty", "error", "core", _UTILS, reshape_empty),
    Rule("reshape-count", "error", "core", _UTILS, reshape_count),
    Rule("format-dims", "error", "core", _UTILS, format_dims),
    Rule("tensorrt-only", "error", "core", _UTILS, tensorrt_only),
    Rule("batch-input", "error", "core", _UTILS, batch_input),
    Rule("batch-output", "error", "core", _UTILS, batch_output),
    Rule("batch-in-dims", "warning", "sense", "server#5721", batch_in_dims),
)
