"""Rules of the onnxruntime backend: the config against the ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint import release
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.onnx_io import UNDECLARED, Border, Io
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Edit, Hit

_BACKEND = "onnxruntime_backend/src/onnxruntime.cc"
_UTILS = "onnxruntime_backend/src/onnxruntime_utils.cc"
_ORT = "onnxruntime/core/graph/model_load_utils.h"
_BF16 = 14
"""TYPE_BF16."""
_BF16_FROM = (26, 3)
"""The release of Triton whose backend was the first to take it (onnxruntime_backend#335)."""
NEWEST_IR = 14
NEWEST_OPSETS = {
    "": 28,
    "ai.onnx.ml": 5,
    "ai.onnx.training": 1,
    "ai.onnx.preview.training": 1,
    "com.microsoft": 1,
}
"""The newest that ONNX Runtime 1.32 loads; of domains that it does not know, any."""


def _here(model: Model) -> bool:
    return model.backend == "onnxruntime"


def readable(model: Model) -> Iterator[tuple[int, Io]]:
    """Version and border of each ONNX file that can be read, for this backend."""
    if _here(model):
        yield from model.onnx.items()


def expected_inputs(config: Any) -> int:
    """How many inputs the backend wants the model to have (the constructor of ModelInstanceState).

    Optional ones do not count; each `batch_input`, each kind of control and each state does.
    """
    sequence = config.sequence_batching
    kinds = {part.kind for control in sequence.control_input for part in control.control}
    listed = sum(not tensor.optional for tensor in config.input)
    return listed + len(config.batch_input) + len(kinds) + len(sequence.state)


def _pairs(model: Model) -> Iterator[tuple[str, str, Any, Border]]:
    """Path, kind, config's tensor and model's tensor of the same name."""
    for _, io in readable(model):
        for kind, borders in (("input", io.fed), ("output", io.outputs)):
            for i, tensor in enumerate(getattr(model.config, kind)):
                if tensor.name in borders:
                    yield f"{kind}[{i}]", kind, tensor, borders[tensor.name]


def unreadable(model: Model) -> Iterator[Hit]:
    """The model's file must be ONNX, and whole."""
    if _here(model):
        for io in model.ios.values():
            if isinstance(io, Hit):
                yield io


def too_new(model: Model) -> Iterator[Hit]:
    """The model's IR version and operator sets are ones that ONNX Runtime has."""
    for version, io in readable(model):
        file = f"{version}/{model.file}"
        if io.ir_version > NEWEST_IR:
            what = f"has IR version {io.ir_version}; {NEWEST_IR} is the newest that is read"
            yield Hit(what, fix="export it with an older one", file=file)
        for domain, number in io.opsets.items():
            newest = NEWEST_OPSETS.get(domain, number)
            if number > newest:
                what = f"has opset {number} of '{domain or 'ai.onnx'}'; {newest} is the newest"
                yield Hit(what, fix="export it with an older one", file=file)


def external_data(model: Model) -> Iterator[Hit]:
    """Weights in files of their own lie in the model's folder, whole."""
    for version, io in readable(model):
        path = model.onnx_path(version)
        problems = (tensor.problem(path) for tensor in io.external)
        if problem := next(filter(None, problems), ""):
            yield Hit(problem, fix="copy the file beside the model", file=f"{version}/{model.file}")


def unknown_tensor(model: Model) -> Iterator[Hit]:
    """Inputs and outputs of the config are those of the model."""
    for _, io in readable(model):
        controls = {c.name for c in model.config.sequence_batching.control_input}
        for kind, borders in (("input", io.fed), ("output", io.outputs)):
            for i, tensor in enumerate(getattr(model.config, kind)):
                if tensor.name and tensor.name not in borders:
                    fix = did_you_mean(tensor.name, [n for n in borders if n not in controls])
                    yield Hit(f"the model has no {kind} '{tensor.name}'", f"{kind}[{i}].name", fix)


def _unfed(model: Model, io: Io) -> list[str]:
    """The model's inputs that nothing in the config gives a value to."""
    sequence = model.config.sequence_batching
    given = {t.name for t in model.config.input}
    given |= {c.name for c in sequence.control_input} | {s.input_name for s in sequence.state}
    given |= {name for made in model.config.batch_input for name in made.target_name}
    return [name for name in io.required if name not in given]


def input_missing(model: Model) -> Iterator[Hit]:
    """The config lists every input of the model that has no initializer."""
    for _, io in readable(model):
        if expected_inputs(model.config) != len(io.required):
            for name in _unfed(model, io):
                yield Hit(f"the model's input '{name}' is not listed", "input")


def input_count(model: Model) -> Iterator[Hit]:
    """Inputs, `batch_input`, controls and states together are as many as the model's inputs."""
    for _, io in readable(model):
        expected = expected_inputs(model.config)
        if expected != len(io.required) and not _unfed(model, io):
            what = f"configuration expects {expected} inputs, model provides {len(io.required)}"
            yield Hit(what, "input", _surplus(model, io))


def _surplus(model: Model, io: Io) -> str:
    """What to take away, or to add, for the numbers to agree."""
    sequence = model.config.sequence_batching
    special = {c.name for c in sequence.control_input} | {s.input_name for s in sequence.state}
    special |= {name for made in model.config.batch_input for name in made.target_name}
    for tensor in model.config.input:
        if tensor.optional and tensor.name in io.required:
            return f"'{tensor.name}' has no initializer, so it is not optional"
        if tensor.name in special:
            return f"'{tensor.name}' is made by Triton: do not list it under input too"
        if tensor.name in io.initialized and not tensor.optional:
            return f"'{tensor.name}' has an initializer: write optional: true, or leave it out"
    return "each input counts once: listed, as a batch_input, a control, or a state"


def input_unfed(model: Model) -> Iterator[Hit]:
    """Every input of the model gets a value; Triton only counts them, and requests fail."""
    for _, io in readable(model):
        if expected_inputs(model.config) == len(io.required):
            for name in _unfed(model, io):
                yield Hit(f"nothing gives the model's input '{name}' a value", "input")


def untyped_tensor(model: Model) -> Iterator[Hit]:
    """The model's inputs and outputs are tensors of types that Triton has."""
    for _, io in readable(model):
        for kind, borders in (("input", io.inputs), ("output", io.outputs)):
            listed = {t.name: i for i, t in enumerate(getattr(model.config, kind))}
            for name, border in borders.items():
                path = f"{kind}[{listed[name]}]" if name in listed else kind
                if border.held and (border.held != UNDECLARED or kind == "input"):
                    yield Hit(f"'{name}' is {border.held} in the model", path)
                elif not border.dtype and not border.held and name in listed:
                    yield Hit(f"'{name}' is of a type that Triton does not have", path)


def type_differs(model: Model) -> Iterator[Hit]:
    """Data types are those of the model."""
    for path, _, tensor, border in _pairs(model):
        numbers = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type
        ours = numbers.values_by_number[tensor.data_type].name
        if border.dtype and tensor.data_type and ours != f"TYPE_{border.dtype}":
            what = f"is {ours}, but TYPE_{border.dtype} in the model"
            edit = Edit(f"{path}.data_type", f"TYPE_{border.dtype}")
            yield Hit(what, f"{path}.data_type", edit=edit)


def _shapes(model: Model) -> Iterator[tuple[str, str, list[int], tuple[int, ...]]]:
    """Path, kind, the config's full shape and the model's, where both are known and no scalar."""
    scattered = {n for o in model.config.batch_output for n in o.target_name}
    for path, kind, tensor, border in _pairs(model):
        ragged = kind == "input" and tensor.allow_ragged_batch
        if not border.shape or ragged or tensor.name in scattered or not tensor.dims:
            continue
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        yield path, kind, [-1, *dims] if model.batched else list(dims), border.shape


def bf16(model: Model) -> Iterator[Hit]:
    """TYPE_BF16 needs Triton 26.03; our Python-based backend takes it before."""
    if not _here(model) or not release.older(model, _BF16_FROM):
        return
    for kind in ("input", "output"):
        for i, tensor in enumerate(getattr(model.config, kind)):
            if tensor.data_type == _BF16:
                what = "TYPE_BF16 is unknown to the C++ backend before Triton 26.03"
                yield Hit(what, f"{kind}[{i}].data_type", "--target names what serves it")


def batch_fixed(model: Model) -> Iterator[Hit]:
    """With max_batch_size, dimension 0 of everything is dynamic in the model."""
    if model.batched:
        for path, _, _, border in _pairs(model):
            if border.shape and border.shape[0] != -1:
                what = f"dimension 0 of '{border.name}' is fixed at {border.shape[0]} in the model"
                yield Hit(what, path, "write max_batch_size: 0, or export it with a dynamic batch")


def scalar_batched(model: Model) -> Iterator[Hit]:
    """A scalar of the model is one value for a whole batch, not one a row."""
    if model.batched:
        for path, _, _, border in _pairs(model):
            if border.shape == ():
                what = f"'{border.name}' is a scalar in the model, so there is no batch dimension"
                yield Hit(what, path, "write max_batch_size: 0")


def shape_differs(model: Model) -> Iterator[Hit]:
    """Full shapes fit the model's: as many dimensions, and equal where both are fixed."""
    for path, _, ours, theirs in _shapes(model):
        if model.batched and theirs[0] != -1:
            continue
        same = len(ours) == len(theirs) and all(
            -1 in (a, b) or a == b for a, b in zip(ours, theirs, strict=True)
        )
        if not same:
            yield Hit(f"{ours} is the full shape, but {list(theirs)} in the model", f"{path}.dims")


def shape_inexact(model: Model) -> Iterator[Hit]:
    """Where the model fixes a size the config has it too; outputs are equal in every dimension."""
    for path, kind, ours, theirs in _shapes(model):
        if len(ours) != len(theirs):
            continue
        start = int(model.batched)
        for a, b in list(zip(ours, theirs, strict=True))[start:]:
            if a != b and -1 in (a, b) and (kind == "output" or b != -1):
                what = f"{ours} is the full shape, but {list(theirs)} in the model"
                yield Hit(what, f"{path}.dims", "write the model's own dims")
                break


def scalar_dims(model: Model) -> Iterator[Hit]:
    """A scalar of the model, or an input that declares no shape, is written as dims: [1]."""
    for path, kind, tensor, border in _pairs(model):
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        ragged = kind == "input" and tensor.allow_ragged_batch
        if border.shape == () and any(d != 1 for d in dims) and not ragged:
            edit = Edit(f"{path}.dims", "[1]")
            yield Hit("a scalar of the model is dims: [1]", f"{path}.dims", edit=edit)
        elif border.shape is None and kind == "input" and any(d != 1 for d in dims) and not ragged:
            what = f"'{border.name}' declares no shape, which the backend takes for a scalar"
            yield Hit(what, f"{path}.dims", "export the model with a shape")


def optional_batched(model: Model) -> Iterator[Hit]:
    """Optional inputs need max_batch_size: 0."""
    if _here(model) and model.batched:
        for i, tensor in enumerate(model.config.input):
            if tensor.optional:
                yield Hit("needs max_batch_size: 0", f"input[{i}].optional")


def ragged_shape(model: Model) -> Iterator[Hit]:
    """A ragged input has the shape [-1] in the model, and is not optional."""
    for path, kind, tensor, border in _pairs(model):
        if kind == "input" and tensor.allow_ragged_batch and tensor.optional:
            yield Hit("is not for optional inputs", f"{path}.allow_ragged_batch", "remove it")
        elif kind == "input" and tensor.allow_ragged_batch and border.shape != (-1,):
            shape = "an unknown shape" if border.shape is None else list(border.shape)
            yield Hit(f"needs [-1] in the model, which has {shape}", f"{path}.allow_ragged_batch")


RULES = (
    Rule("onnx-unreadable", "error", "backend", "onnxruntime", unreadable),
    Rule("onnx-too-new", "error", "backend", _ORT, too_new),
    Rule("onnx-external-data", "error", "backend", "onnxruntime", external_data),
    Rule("onnx-unknown-tensor", "error", "backend", _BACKEND, unknown_tensor),
    Rule("onnx-input-missing", "error", "backend", _BACKEND, input_missing),
    Rule("onnx-input-count", "error", "backend", _BACKEND, input_count),
    Rule("onnx-input-unfed", "warning", "sense", _BACKEND, input_unfed),
    Rule("onnx-no-tensor", "error", "backend", _BACKEND, untyped_tensor),
    Rule("onnx-type", "error", "backend", _BACKEND, type_differs),
    Rule("onnx-bf16", "error", "c++", "onnxruntime_backend#335", bf16),
    Rule("onnx-batch-fixed", "error", "backend", _UTILS, batch_fixed),
    Rule("onnx-shape", "error", "backend", _UTILS, shape_differs),
    Rule("onnx-shape-inexact", "error", "backend", _UTILS, shape_inexact),
    Rule("onnx-scalar", "error", "backend", _BACKEND, scalar_dims),
    Rule("onnx-scalar-batched", "warning", "sense", _BACKEND, scalar_batched),
    Rule("onnx-optional", "error", "backend", _BACKEND, optional_batched),
    Rule("onnx-ragged", "error", "c++", _BACKEND, ragged_shape),
)
