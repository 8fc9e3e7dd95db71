"""Rules of the openvino backend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_BACKEND = "openvino_backend/src/openvino.cc"
_KNOWN = (
    "TARGET_DEVICE",
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "INFERENCE_NUM_THREADS",
    "COMPILATION_NUM_THREADS",
    "HINT_BF16",
    "ENABLE_BATCH_PADDING",
    "RESHAPE_IO_LAYERS",
    "SKIP_OV_DYNAMIC_BATCHSIZE",
    "CPU_EXTENSION_PATH",
    "TRITON_BATCH_STRATEGY_PATH",
    "EXECUTION_ENV_PATH",
)
_VALUES = {
    "NUM_STREAMS": r"(?i)auto|numa|\d+",
    "PERFORMANCE_HINT": r"(?i)latency|throughput|cumulative_throughput",
    "INFERENCE_NUM_THREADS": r"\d+",
    "COMPILATION_NUM_THREADS": r"\d+",
    "HINT_BF16": r"(?i)yes",
}
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


def _blocks(content: bytes, layer: str) -> list[bytes]:
    pattern = rb'<layer [^>]*type="%s".*?</layer>' % layer.encode()
    return re.findall(pattern, content, re.DOTALL)


def _names(content: bytes) -> Iterator[set[str]]:
    """The names of each input of the IR, which can have several."""
    for block in _blocks(content, "Parameter"):
        found = b",".join(re.findall(rb'<port [^>]*names="([^"]*)"', block)).decode(
            errors="replace"
        )
        if names := {name for name in found.split(",") if name}:
            yield names


def _borders(content: bytes, kind: str) -> dict[str, list[int]]:
    """Name -> shape of the IR's inputs or outputs; -1 is any size.

    An older IR does not name its outputs: then there is nothing to compare.
    """
    blocks = _blocks(content, "Parameter" if kind == "input" else "Result")
    names = rb'<port [^>]*names="([^"]*)"' if kind == "input" else rb'output_names="([^"]*)"'
    found: dict[str, list[int]] = {}
    for block in blocks:
        shape = [int(dim) for dim in re.findall(rb"<dim>(-?\d+)</dim>", block)]
        for name in b",".join(re.findall(names, block)).split(b","):
            if name:
                found[name.decode(errors="replace")] = shape
    return found


def unknown_tensor(model: Model) -> Iterator[Hit]:
    """Inputs and outputs of the config are those of the IR."""
    for _, path in _irs(model):
        content = path.read_bytes()
        for kind in ("input", "output"):
            names = _borders(content, kind)
            for i, tensor in enumerate(getattr(model.config, kind)):
                if names and tensor.name not in names:
                    fix = did_you_mean(tensor.name, names)
                    yield Hit(f"the model has no {kind} '{tensor.name}'", f"{kind}[{i}].name", fix)


def input_missing(model: Model) -> Iterator[Hit]:
    """The config lists every input of the IR."""
    given = {t.name for t in model.config.input}
    for _, path in _irs(model):
        for names in _names(path.read_bytes()):
            if not given & names:
                yield Hit(f"the model's input '{min(names)}' is not listed", "input")


def shape_differs(model: Model) -> Iterator[Hit]:
    """Without batching dims are the IR's, where that fixes them; inputs may be reshaped."""
    may_reshape = (model.parameter("RESHAPE_IO_LAYERS") or "").lower() == "yes"
    for _, path in _irs(model) if not model.batched else ():
        content = path.read_bytes()
        given, wanted = model.config.input, _borders(content, "input")
        # Where no input gets another shape, no output does.
        reshaped = may_reshape and any(wanted.get(t.name) != _dims(t) for t in given)
        for kind, free in (("input", may_reshape), ("output", reshaped)):
            shapes = _borders(content, kind)
            for i, tensor in enumerate(getattr(model.config, kind)):
                dims = _dims(tensor)
                want = shapes.get(tensor.name, dims)
                fits = free or all(a in (-1, b) for a, b in zip(want, dims, strict=False))
                if len(want) != len(dims) or not fits:
                    yield Hit(f"{dims} is {want} in the model", f"{kind}[{i}].dims")


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


def parameter_value(model: Model) -> Iterator[Hit]:
    """Parameters have values that the backend accepts."""
    if not _here(model):
        return
    for key, pattern in _VALUES.items():
        value = model.parameter(key)
        if value and not re.fullmatch(pattern, value):
            choices = pattern.replace("(?i)", "").replace("\\d+", "a whole number")
            yield Hit(f"'{value}' is none of {choices.replace('|', ', ')}", f'parameters["{key}"]')


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


def batch_padding(model: Model) -> Iterator[Hit]:
    """Batch padding keeps stale state between requests: errors come and go."""
    if _here(model) and (model.parameter("ENABLE_BATCH_PADDING") or "").lower() == "yes":
        fix = "write max_batch_size: 0 and dims with -1 in front"
        yield Hit("fails some requests", 'parameters["ENABLE_BATCH_PADDING"]', fix)


RULES = (
    Rule("openvino-kind", "error", "backend", _BACKEND, kind_cpu),
    Rule("openvino-weights", "error", "backend", _BACKEND, weights_missing),
    Rule("openvino-broken", "error", "backend", "openvino", broken_ir),
    Rule("openvino-unknown-tensor", "error", "backend", _BACKEND, unknown_tensor),
    Rule("openvino-input-missing", "error", "backend", _BACKEND, input_missing),
    Rule("openvino-shape", "error", "backend", _BACKEND, shape_differs),
    Rule("openvino-type", "error", "backend", _BACKEND, data_type),
    Rule("openvino-parameter-value", "error", "backend", _BACKEND, parameter_value),
    Rule("openvino-parameter-unknown", "warning", "sense", _BACKEND, parameter_unknown),
    Rule("openvino-batch", "warning", "c++", "server#7363", batch_set),
    Rule("openvino-padding", "warning", "sense", _BACKEND, batch_padding),
)
