"""Takes out of ELF files what no loader reads; runs inside a build stage.

What a program or a shared library needs at run time lies in its segments. Symbols for debuggers,
section names and notes for linkers lie between them, and are a third of some libraries. The
segments stay as they are, byte for byte, and at the same addresses.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian: x86-64 and arm64
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr, elf(5)
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_LOAD = 1  # PT_LOAD
_PAGE = 0x10000  # the largest page of the processors; some files ask for 2 MB, and are padded to it
# A file of ICU's data: the length of its header, two bytes of magic (ucmndata.h, MappedData).
_ICU_MAGIC = b"\xda\x27"


def strip(path: Path) -> int:
    """Drop from a file all that lies in no segment; returns the bytes that were won.

    Files that are no ELF of 64 bits, or have no segments (objects), stay as they are.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        return 0
    header = list(_HEADER.unpack_from(content))
    table, count = header[5], header[10]
    segments = [
        list(_SEGMENT.unpack_from(content, table + i * _SEGMENT.size)) for i in range(count)
    ]
    loads = sorted((s for s in segments if s[0] == _LOAD and s[5]), key=lambda s: s[2])
    if not loads:
        return 0
    kept = bytearray()
    moves: list[
        tuple[int, int, int]
    ] = []  # (offset, end, new offset) of each segment that is loaded
    for segment in loads:
        offset, size = segment[2], segment[5]
        segment[7] = min(segment[7], _PAGE)
        # The loader maps whole pages, so an offset keeps its place within one.
        start = len(kept) + (offset - len(kept)) % max(segment[7], 1) if kept else offset
        if moves and offset < moves[-1][1]:
            return 0  # segments that share bytes: not worth the care
        kept += bytes(start - len(kept)) + content[offset : offset + size]
        moves.append((offset, offset + size, start))

    def moved(offset: int) -> int | None:
        return next((new + offset - old for old, end, new in moves if old <= offset < end), None)

    place = moved(table)
    if place is None or moves[0][0] or len(kept) >= len(content):
        return 0
    for segment in segments:
        if segment[5]:  # what is not loaded (a note of the linker) may lie outside
            new = moved(segment[2])
            if new is None:
                return 0
            segment[2] = new
    header[5], header[6], header[12], header[13] = place, 0, 0, 0  # no table of sections
    _HEADER.pack_into(kept, 0, *header)
    for number, segment in enumerate(segments):
        _SEGMENT.pack_into(kept, place + number * _SEGMENT.size, *segment)
    path.write_bytes(kept)
    return len(content) - len(kept)


def empty_icu_data(path: Path) -> None:
    """Leave of a library of ICU's data its header and a table of contents with nothing in it.

    It is what ICU's own build calls stub data: what needs a table says that it is not there,
    UTF-8, UTF-16 and ASCII need none. ValueError for any other library.
    """
    content = bytearray(path.read_bytes())
    header = _HEADER.unpack_from(content)
    if not content.startswith(_MAGIC):
        raise ValueError("not an ELF file of 64 bits")
    for number in range(header[10]):
        place = header[5] + number * _SEGMENT.size
        segment = list(_SEGMENT.unpack_from(content, place))
        kind, offset = segment[0], segment[2]
        if kind == _LOAD and content[offset + 2 : offset + 4] == _ICU_MAGIC:
            (length,) = struct.unpack_from("<H", content, offset)
            struct.pack_into("<I", content, offset + length, 0)
            segment[5] = segment[6] = length + 4
            _SEGMENT.pack_into(content, place, *segment)
            path.write_bytes(content)
            return
    raise ValueError("no ICU data in it")
