"""Rules of the openvino backend: the config against the model's file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_BACKEND = "openvino_backend/src/openvino.cc"
_TYPES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def _here(model: Model) -> bool:
    return model.backend == "openvino"


def kind_cpu(model: Model) -> Iterator[Hit]:
    """Instances are KIND_CPU, even for a GPU or NPU, which TARGET_DEVICE chooses."""
    for i, group in enumerate(model.config.instance_group):
        if _here(model) and group.kind in (1, 3):
            fix = 'write KIND_CPU, and parameters { key: "TARGET_DEVICE" ... }'
            yield Hit("must be KIND_CPU", f"instance_group[{i}].kind", fix)


def _irs(model: Model) -> Iterator[tuple[str, Path]]:
    """Name and path of the IR of each version that is there."""
    if _here(model) and model.file.endswith(".xml"):
        for version in model.loaded:
            path = model.versions[version] / model.file
            if path.is_file():
                yield f"{version}/{model.file}", path


def weights_missing(model: Model) -> Iterator[Hit]:
    """Beside an IR's .xml lies the .bin with its weights, whole."""
    for file, path in _irs(model):
        weights = path.with_suffix(".bin")
        if not weights.exists():
            yield Hit("its weights, the .bin file, are missing", file=file)
            continue
        spans = re.findall(rb'offset="(\d+)"[^>]*?size="(\d+)"', path.read_bytes())
        need = max((int(offset) + int(size) for offset, size in spans), default=0)
        if weights.stat().st_size < need:
            what = f"its weights, the .bin file, have {weights.stat().st_size} of {need} bytes"
            yield Hit(what, file=file)


_INNERMOST = re.compile(
    rb"<((?:then_|else_)?body)>(?:(?!<(?:then_|else_)?body>).)*?</\1>", re.DOTALL
)
"""A body of If, Loop or TensorIterator without another in it."""


def _blocks(content: bytes, layer: str) -> list[bytes]:
    """The layers of a type in the model itself; those of bodies are no inputs or outputs of it."""
    while (outer := _INNERMOST.sub(b"", content)) != content:
        content = outer
    pattern = rb'<layer [^>]*type="%s".*?</layer>' % layer.encode()
    return re.findall(pattern, content, re.DOTALL)


_NAMES = {
    "input": ("Parameter", rb'<port [^>]*names="([^"]*)"'),
    "output": ("Result", rb'output_names="([^"]*)"'),
}


def _names(content: bytes, kind: str) -> Iterator[set[str]]:
    """The names of each input or output of the IR, which can have several.

    An older IR does not name its outputs: then there is nothing to compare.
    """
    layer, pattern = _NAMES[kind]
    for block in _blocks(content, layer):
        found = b",".join(re.findall(pattern, block)).decode(errors="replace")
        if names := {name for name in found.split(",") if name}:
            yield names


def _borders(content: bytes, kind: str) -> dict[str, list[int]]:
    """Name -> shape of the IR's inputs or outputs; -1 is any size."""
    layer, pattern = _NAMES[kind]
    found: dict[str, list[int]] = {}
    for block in _blocks(content, layer):
        shape = [int(dim) for dim in re.findall(rb"<dim>(-?\d+)</dim>", block)]
        for name in b",".join(re.findall(pattern, block)).split(b","):
            if name:
                found[name.decode(errors="replace")] = shape
    return found


def file_folder(model: Model) -> Iterator[Hit]:
    """The model's file is a file; a folder is taken for a TensorFlow SavedModel."""
    if not _here(model):
        return
    for version in model.loaded:
        path = model.versions[version] / model.file
        if model.file and path.is_dir() and not (path / "saved_model.pb").is_file():
            what = "is a folder, and no TensorFlow SavedModel"
            yield Hit(what, fix="put the model itself there", file=f"{version}/{model.file}")


def unknown_tensor(model: Model) -> Iterator[Hit]:
    """Inputs and outputs of the config are those of the IR, by the first of their names."""
    for _, path in _irs(model):
        content = path.read_bytes()
        for kind in ("input", "output"):
            names = _borders(content, kind)
            first = {min(others) for others in _names(content, kind)}
            for i, tensor in enumerate(getattr(model.config, kind)):
                where = f"{kind}[{i}].name"
                if names and tensor.name not in names:
                    fix = did_you_mean(tensor.name, names)
                    yield Hit(f"the model has no {kind} '{tensor.name}'", where, fix)
                elif first and tensor.name not in first:
                    right = next(min(o) for o in _names(content, kind) if tensor.name in o)
                    what = f"'{tensor.name}' has several names, and the backend knows '{right}'"
                    yield Hit(what, where, f"write {right}")


def input_missing(model: Model) -> Iterator[Hit]:
    """The config lists every input of the IR."""
    given = {t.name for t in model.config.input}
    for _, path in _irs(model):
        inputs = list(_names(path.read_bytes(), "input"))
        if len(inputs) != len(model.config.input):
            for names in inputs:
                if not given & names:
                    yield Hit(f"the model's input '{min(names)}' is not listed", "input")


def input_count(model: Model) -> Iterator[Hit]:
    """The config lists as many inputs as the IR has; controls and `batch_input` do not count."""
    given = {t.name for t in model.config.input}
    for _, path in _irs(model):
        inputs = list(_names(path.read_bytes(), "input"))
        listed = len(model.config.input)
        if inputs and len(inputs) != listed and all(given & names for names in inputs):
            what = f"configuration expects {listed} inputs, model provides {len(inputs)}"
            yield Hit(what, "input", "list each input once")


def input_unfed(model: Model) -> Iterator[Hit]:
    """Every input of the IR is listed; Triton only counts them, and requests fail."""
    given = {t.name for t in model.config.input}
    for _, path in _irs(model):
        inputs = list(_names(path.read_bytes(), "input"))
        if len(inputs) == len(model.config.input):
            for names in inputs:
                if not given & names:
                    yield Hit(f"nothing gives the model's input '{min(names)}' a value", "input")


def optional(model: Model) -> Iterator[Hit]:
    """No input is optional: the backend does not support that."""
    for i, tensor in enumerate(model.config.input):
        if _here(model) and tensor.optional:
            yield Hit("openvino has no optional inputs", f"input[{i}].optional", "remove it")


def shape_differs(model: Model) -> Iterator[Hit]:
    """dims are the IR's, where that fixes them; RESHAPE_IO_LAYERS fixes or frees inputs'."""
    reshapes = (model.parameter("RESHAPE_IO_LAYERS") or "").lower() == "yes"
    for _, path in _irs(model):
        content = path.read_bytes()
        wanted = _borders(content, "input")
        # Where no input gets another shape, no output does, but for its batch.
        reshaped = reshapes and any(
            wanted.get(t.name, [])[int(model.batched) :] != _dims(t) for t in model.config.input
        )
        check = _reshaped_input if reshapes else _plain_input
        for i, tensor in enumerate(model.config.input):
            if tensor.name in wanted and not check(model, tensor, wanted[tensor.name]):
                yield _shape_hit(tensor, wanted[tensor.name], f"input[{i}].dims")
        results = _borders(content, "output")
        for i, tensor in enumerate(model.config.output):
            if tensor.name in results and not _output(
                model, tensor, results[tensor.name], reshaped
            ):
                yield _shape_hit(tensor, results[tensor.name], f"output[{i}].dims")


def _shape_hit(tensor: Any, shape: Sequence[int], path: str) -> Hit:
    if not shape:
        fix = "openvino serves no scalars: give it the shape [1] in the model"
        return Hit(f"'{tensor.name}' is a scalar in the model", path, fix)
    return Hit(f"{_dims(tensor)} is {list(shape)} in the model", path)


def _plain_input(model: Model, tensor: Any, shape: Sequence[int]) -> bool:
    """CompareDimsSupported in openvino_utils.cc; ov::set_batch gives dimension 0 its size."""
    dims = _dims(tensor)
    if not model.batched:
        return _match(shape, dims)
    free = [-1 if dim == -1 else size for size, dim in zip(shape[1:], dims, strict=False)]
    return len(shape) == len(dims) + 1 and _match(free, dims)


def _reshaped_input(model: Model, tensor: Any, shape: Sequence[int]) -> bool:
    """A tensor's shape may fix what is open in the model, or open what is fixed, and be shorter."""
    part = list(shape)[int(model.batched) :]
    dims = _dims(tensor)
    pairs = zip(part, dims, strict=False)
    return bool(shape) and len(dims) <= len(part) and all(-1 in (a, b) or a == b for a, b in pairs)


def _output(model: Model, tensor: Any, shape: Sequence[int], reshaped: bool) -> bool:
    dims = _dims(tensor)
    part = list(shape)[int(model.batched) :]
    if len(shape) != len(dims) + int(model.batched):
        return False
    return reshaped or _match(part, dims)


def _match(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """As many dimensions, and equal where the model fixes them."""
    pairs = zip(shape, dims, strict=False)
    return len(shape) == len(dims) and all(a in (-1, b) for a, b in pairs)


def _dims(tensor: Any) -> list[int]:
    """The shape that the backend sees, without a batch dimension."""
    return list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


def broken_ir(model: Model) -> Iterator[Hit]:
    """An IR is well-formed XML."""
    from xml.parsers import expat

    for file, path in _irs(model):
        parser = expat.ParserCreate()
        parser.EntityDeclHandler = _no_entities
        try:
            parser.Parse(path.read_bytes(), True)
        except expat.ExpatError as failure:
            what = f"is no well-formed XML: {expat.ErrorString(failure.code)}"
            yield Hit(what, file=file, line=failure.lineno)
        except ValueError as failure:
            yield Hit(str(failure), file=file, line=1)


def _no_entities(*_: object) -> None:
    raise ValueError("declares XML entities, which no IR has")


def data_type(model: Model) -> Iterator[Hit]:
    """Tensors are of types that the backend converts: not STRING, BF16 or FP64."""
    if not _here(model):
        return
    for kind in ("input", "output"):
        for i, tensor in enumerate(getattr(model.config, kind)):
            if tensor.data_type and tensor.data_type not in _TYPES:
                yield Hit("is a type that openvino does not take", f"{kind}[{i}].data_type")


RULES = (
    Rule("openvino-kind", "error", "backend", _BACKEND, kind_cpu),
    Rule("openvino-folder", "error", "backend", "openvino", file_folder),
    Rule("openvino-weights", "error", "backend", _BACKEND, weights_missing),
    Rule("openvino-broken", "error", "backend", "openvino", broken_ir),
    Rule("openvino-unknown-tensor", "error", "backend", _BACKEND, unknown_tensor),
    Rule("openvino-input-missing", "error", "backend", _BACKEND, input_missing),
    Rule("openvino-input-count", "error", "backend", _BACKEND, input_count),
    Rule("openvino-input-unfed", "warning", "sense", _BACKEND, input_unfed),
    Rule("openvino-optional", "error", "backend", "backend/src/backend_model.cc", optional),
    Rule("openvino-shape", "error", "backend", _BACKEND, shape_differs),
    Rule("openvino-type", "error", "backend", _BACKEND, data_type),
)
