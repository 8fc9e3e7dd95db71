"""The inputs and outputs of an ONNX file, read from its bytes without its weights.

A thousand models are linted in seconds because nothing but the graph's border is decoded. Field
numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repo_builder.introspect.graph import TRITON_TYPES


@dataclass(frozen=True)
class Border:
    """An input or output: Triton's type ("" where it has none), shape with -1, None: not declared.

    `held` names what it is, where it is no tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    held: str = ""


@dataclass(frozen=True)
class Io:
    """What an ONNX file takes and gives; inputs with an initializer are optional."""

    inputs: dict[str, Border]
    outputs: dict[str, Border]
    initialized: frozenset[str]


class NotOnnx(ValueError):
    """The bytes are no ONNX model, or were cut short."""


_HELD = {4: "a sequence", 5: "a map", 8: "a sparse tensor", 9: "an optional"}


def read(path: Path) -> Io:
    """The inputs and outputs of the model at `path`; OSError, or NotOnnx."""
    if path.stat().st_size == 0:
        raise NotOnnx("the file is empty")
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        # Views into the map may outlive this call in a traceback, so it is left to close itself.
        return _model(memoryview(content))
    except (IndexError, UnicodeDecodeError, OverflowError):
        raise NotOnnx("not an ONNX model, or cut short") from None


def _model(view: memoryview) -> Io:
    graph = opset = None
    for number, value in _fields(view):
        if number == 7 and isinstance(value, memoryview):
            graph = value
        elif number == 8:
            opset = value
    if graph is None or opset is None:
        raise NotOnnx("not an ONNX model: it has no graph or no operator set")
    inputs: dict[str, Border] = {}
    outputs: dict[str, Border] = {}
    initialized = set()
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 11:
            border = _border(value)
            inputs[border.name] = border
        elif number == 12:
            border = _border(value)
            outputs[border.name] = border
        elif number == 5:
            initialized.add(_string(value, 8))
        elif number == 15:
            initialized.update(
                _string(v, 8) for n, v in _fields(value) if n == 1 and isinstance(v, memoryview)
            )
    if not outputs:
        raise NotOnnx("the graph has no output")
    return Io(inputs, outputs, frozenset(initialized))


def _border(view: memoryview) -> Border:
    name, dtype, shape, held = "", "", None, "nothing"
    for number, value in _fields(view):
        if number == 1 and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == 2 and isinstance(value, memoryview):
            for kind, inner in _fields(value):
                held = _HELD.get(kind, held)
                if kind == 1 and isinstance(inner, memoryview):
                    dtype, shape = _tensor(inner)
                    held = ""
    return Border(name, dtype, shape, held)


def _tensor(view: memoryview) -> tuple[str, tuple[int, ...] | None]:
    dtype, shape = "", None
    for number, value in _fields(view):
        if number == 1 and isinstance(value, int):
            dtype = TRITON_TYPES.get(value, "")
        elif number == 2 and isinstance(value, memoryview):
            dims = [d for n, d in _fields(value) if n == 1 and isinstance(d, memoryview)]
            shape = tuple(_dim(d) for d in dims)
    return dtype, shape


def _dim(view: memoryview) -> int:
    for number, value in _fields(view):
        if number == 1 and isinstance(value, int):
            return value if value < 1 << 63 else -1
    return -1


def _string(view: memoryview, wanted: int) -> str:
    for number, value in _fields(view):
        if number == wanted and isinstance(value, memoryview):
            return bytes(value).decode()
    return ""


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message: numbers, and content as it is."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield number, value
        elif kind == 2:
            size, at = _varint(view, at)
            if at + size > end:
                raise NotOnnx("not an ONNX model, or cut short")
            yield number, view[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            if at > end:
                raise NotOnnx("not an ONNX model, or cut short")
        else:
            raise NotOnnx("not an ONNX model, or cut short")
        if number == 0:
            raise NotOnnx("not an ONNX model, or cut short")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise NotOnnx("not an ONNX model, or cut short")
