"""Tensors of a TFLite file: buffers, with the name, type and shape of the tensor that uses each.

Field numbers are those of TFLite's schema.fbs. Written by hand so that `release/` needs no
flatbuffers.
"""

from __future__ import annotations

import mmap
import struct

from repo_builder.release.delta.parsers.tensor import Tensor

_TYPES = {0: "f4", 1: "f2", 2: "i4", 3: "i1", 7: "i2", 9: "i1"}
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER, _NAME = 0, 1, 2, 3


def tensors(content: mmap.mmap | bytes) -> list[Tensor]:
    """Each buffer once, by the first tensor that uses it."""
    file = _File(content)
    model = file.at(0)
    places = [file.vector(table, 0) for table in file.tables(model, _BUFFERS)]
    found: dict[int, Tensor] = {}
    for subgraph in file.tables(model, _SUBGRAPHS):
        for tensor in file.tables(subgraph, _TENSORS):
            number = file.scalar(tensor, _BUFFER, "<I")
            kind = _TYPES.get(file.scalar(tensor, _TYPE, "<b"), "i1")
            offset, length = places[number]
            if not length or number in found:
                continue
            begin, count = file.vector(tensor, _SHAPE)
            shape = struct.unpack_from(f"<{count}i", content, begin)
            begin, count = file.vector(tensor, _NAME)
            name = bytes(content[begin : begin + count]).decode("utf-8", "replace")
            found[number] = Tensor(name, kind, shape, offset, length)
    return list(found.values())


class _File:
    """Tables of a flatbuffer, by the place of their first byte."""

    def __init__(self, content: mmap.mmap | bytes) -> None:
        self._content = content

    def at(self, place: int) -> int:
        """Where the offset at `place` leads to."""
        return place + int(struct.unpack_from("<I", self._content, place)[0])

    def _field(self, table: int, number: int) -> int:
        """Where a field of a table lies; 0: it has none."""
        schema = table - struct.unpack_from("<i", self._content, table)[0]
        size = struct.unpack_from("<H", self._content, schema)[0]
        if 4 + 2 * number >= size:
            return 0
        offset = struct.unpack_from("<H", self._content, schema + 4 + 2 * number)[0]
        return table + int(offset) if offset else 0

    def scalar(self, table: int, number: int, form: str) -> int:
        """A number of a table; 0 where it is not written."""
        place = self._field(table, number)
        return int(struct.unpack_from(form, self._content, place)[0]) if place else 0

    def vector(self, table: int, number: int) -> tuple[int, int]:
        """Where a vector's items begin, and how many they are."""
        place = self._field(table, number)
        if not place:
            return 0, 0
        begin = self.at(place)
        return begin + 4, int(struct.unpack_from("<I", self._content, begin)[0])

    def tables(self, table: int, number: int) -> list[int]:
        """The tables in a vector."""
        begin, count = self.vector(table, number)
        if count > len(self._content) // 4:
            raise ValueError("a vector longer than its file")
        return [self.at(begin + 4 * i) for i in range(count)]
