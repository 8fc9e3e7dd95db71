"""Tensors of an ONNX file: raw bytes of initializers and constants, also in subgraphs.

The field numbers are those of onnx.proto (github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from repo_builder.release.delta.parsers.tensor import Tensor

_TYPES = {
    1: "f4", 2: "i1", 3: "i1", 4: "i2", 5: "i2", 6: "i4", 9: "i1", 10: "f2", 12: "i4", 16: "f2",
    17: "i1", 18: "i1", 19: "i1", 20: "i1", 21: "i1", 22: "i1",
}  # fmt: skip
_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE = 7, 1, 5, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _EXTERNAL = 1, 2, 4, 8, 9, 13
_DEPTH = 32

Content = mmap.mmap | bytes


def tensors(content: Content) -> list[Tensor]:
    """Tensors whose bytes lie in the file itself."""
    return [tensor for tensor, outside in _all(content) if not outside]


def external(content: bytes) -> list[Tensor]:
    """Tensors whose bytes lie in another file, at their places there."""
    return [tensor for tensor, outside in _all(content) if outside]


def _all(content: Content) -> Iterator[tuple[Tensor, bool]]:
    for field, begin, end in _fields(content, 0, len(content)):
        if field == _GRAPH:
            yield from _graph(content, begin, end, 0)


def _graph(content: Content, begin: int, end: int, depth: int) -> Iterator[tuple[Tensor, bool]]:
    if depth > _DEPTH:
        raise ValueError("graphs in graphs in graphs")
    for field, a, b in _fields(content, begin, end):
        if field == _INITIALIZER:
            yield from _tensor(content, a, b, "")
        elif field == _NODE:
            for inner, c, d in _fields(content, a, b):
                if inner == _ATTRIBUTE:
                    yield from _attribute(content, c, d, depth)


def _attribute(content: Content, begin: int, end: int, depth: int) -> Iterator[tuple[Tensor, bool]]:
    for field, a, b in _fields(content, begin, end):
        if field == _ATTRIBUTE_TENSOR:
            yield from _tensor(content, a, b, "constant ")
        elif field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            yield from _graph(content, a, b, depth + 1)


def _tensor(content: Content, begin: int, end: int, name: str) -> Iterator[tuple[Tensor, bool]]:
    shape: list[int] = []
    code, raw, outside = 0, (0, 0), {}
    for field, a, b in _fields(content, begin, end):
        if field == _DIMS and b > a:
            at = a
            while at < b:
                dim, at = _varint(content, at)
                shape.append(dim)
        elif field == _DIMS:
            shape.append(_varint(content, a)[0])
        elif field == _TYPE:
            code = _varint(content, a)[0]
        elif field == _NAME:
            name += content[a:b].decode("utf-8", "replace")
        elif field == _RAW or (field == _FLOATS and b - a >= 4):
            raw = (a, b - a)
        elif field == _EXTERNAL:
            entry = {
                f: content[c:d].decode("utf-8", "replace") for f, c, d in _fields(content, a, b)
            }
            outside[entry.get(1, "")] = entry.get(2, "")
    if code not in _TYPES:
        return
    if outside:
        offset, length = int(outside.get("offset", "0")), int(outside.get("length", "0"))
        yield Tensor(name, _TYPES[code], tuple(shape), offset, length), True
    elif raw[1]:
        yield Tensor(name, _TYPES[code], tuple(shape), *raw), False


def _fields(content: Content, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message: number, and where its value begins and ends (begins twice: a number)."""
    while at < end:
        tag, at = _varint(content, at)
        wire = tag & 7
        if wire == 0:
            yield tag >> 3, at, at
            _, at = _varint(content, at)
        elif wire == 2:
            length, at = _varint(content, at)
            if length > end - at:
                raise ValueError("a field reaches over the end")
            yield tag >> 3, at, at + length
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(content: Content, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise struct.error("a number without end")
        byte = content[at]
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at
