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
from repo_builder.repository.lint.external import External

_OVERRIDABLE_FROM = 4
"""The IR version from which an input with an initializer may be fed (Graph::CanOverrideInitializer
in ONNX Runtime); before it, such an input is a constant."""


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
    """What an ONNX file takes and gives, what it is written in, and its weights in other files.

    Inputs with an initializer are optional, or, before IR version 4, none. `opsets` is domain ->
    version; "ai.onnx" is "".
    """

    inputs: dict[str, Border]
    outputs: dict[str, Border]
    initialized: frozenset[str]
    ir_version: int
    opsets: dict[str, int]
    external: tuple[External, ...]

    @property
    def required(self) -> dict[str, Border]:
        """The inputs that ONNX Runtime counts: those without an initializer."""
        return {name: b for name, b in self.inputs.items() if name not in self.initialized}

    @property
    def fed(self) -> dict[str, Border]:
        """The inputs that a request may bring."""
        return self.inputs if self.ir_version >= _OVERRIDABLE_FROM else self.required


class NotOnnx(ValueError):
    """The bytes are no ONNX model, or were cut short."""


UNDECLARED = "nothing"
"""What an output holds that declares no type; ONNX Runtime then finds it by itself."""
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
    graph = None
    ir_version = 0
    opsets: dict[str, int] = {}
    for number, value in _fields(view):
        if number == 1 and isinstance(value, int):
            ir_version = value
        elif number == 7 and isinstance(value, memoryview):
            graph = value
        elif number == 8 and isinstance(value, memoryview):
            opsets.update([_opset(value)])
    if graph is None or not opsets:
        raise NotOnnx("not an ONNX model: it has no graph or no operator set")
    inputs: dict[str, Border] = {}
    outputs: dict[str, Border] = {}
    initialized = set()
    external = []
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
            name, elsewhere = _initializer(value)
            initialized.add(name)
            if elsewhere:
                external.append(elsewhere)
        elif number == 15:
            initialized.update(
                _string(v, 8) for n, v in _fields(value) if n == 1 and isinstance(v, memoryview)
            )
    if not outputs:
        raise NotOnnx("the graph has no output")
    return Io(inputs, outputs, frozenset(initialized), ir_version, opsets, tuple(external))


def _opset(view: memoryview) -> tuple[str, int]:
    """Domain and version of an OperatorSetIdProto."""
    domain, version = "", 0
    for number, value in _fields(view):
        if number == 1 and isinstance(value, memoryview):
            domain = bytes(value).decode()
        elif number == 2 and isinstance(value, int):
            version = _signed(value)
    return "" if domain == "ai.onnx" else domain, version


def _initializer(view: memoryview) -> tuple[str, External | None]:
    """The name of a TensorProto, and where its values are if not in it."""
    name, data_type, elsewhere = "", 0, False
    dims: list[int] = []
    entries: dict[str, str] = {}
    for number, value in _fields(view):
        if number == 1:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == 2 and isinstance(value, int):
            data_type = value
        elif number == 8 and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == 13 and isinstance(value, memoryview):
            entries[_string(value, 1)] = _string(value, 2)
        elif number == 14:
            elsewhere = value == 1
    return name, External(name, tuple(dims), data_type, entries) if elsewhere else None


def _packed(view: memoryview) -> list[int]:
    """The numbers of a packed repeated field."""
    at, found = 0, []
    while at < len(view):
        value, at = _varint(view, at)
        found.append(value)
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _border(view: memoryview) -> Border:
    name, dtype, shape, held = "", "", None, UNDECLARED
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
