"""zstd with every size known before it is allocated: a block's streams, also with a prefix."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import DeltaError, MissingExtra
from repo_builder.release.delta.layout import BODY, Cursor, number

if TYPE_CHECKING:
    from types import ModuleType

_WINDOW = 23
"""log2 of how far back a stream may refer: a prefix and a block, 8 MiB."""


def library() -> ModuleType:
    """Python's own zstd, or the same for older ones; MissingExtra where neither is there."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise MissingExtra("device", "reading and writing deltas") from None
    module: ModuleType = zstd
    return module


def stream(content: bytes, level: int = 1, prefix: bytes = b"") -> bytes:
    """`content` as a stream that `read` takes: stored where zstd does not help."""
    packed = _compressed(content, level, prefix) if len(content) > 16 or prefix else content
    if len(packed) < len(content):
        return number(len(packed) << 1 | 1) + packed
    return number(len(content) << 1) + content


def _compressed(content: bytes, level: int, prefix: bytes) -> bytes:
    zstd = library()
    if not prefix:
        options = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.content_size_flag: 0,
        }
        return bytes(zstd.compress(content, options=options))
    options = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.window_log: _WINDOW,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    known = zstd.ZstdDict(prefix, is_raw=True).as_prefix
    return bytes(zstd.compress(content, options=options, zstd_dict=known))


def read(body: Cursor, length: int, what: str, prefix: bytes = b"") -> bytes:
    """The next stream of a block, which must hold exactly `length` bytes."""
    head = body.number(2 * BODY + 1, f"size of {what}")
    content = body.take(head >> 1)
    if head & 1:
        content = _decompressed(content, length, what, prefix)
    if len(content) != length:
        raise DeltaError(f"{what} has {len(content)} bytes where {length} are needed")
    return content


def _decompressed(content: bytes, length: int, what: str, prefix: bytes) -> bytes:
    zstd = library()
    extra: dict[str, Any] = {"options": {zstd.DecompressionParameter.window_log_max: _WINDOW}}
    if prefix:
        extra["zstd_dict"] = zstd.ZstdDict(prefix, is_raw=True).as_prefix
    reader = zstd.ZstdDecompressor(**extra)
    try:
        # One byte more than wanted shows a stream that is too long, without unpacking it.
        result: bytes = reader.decompress(content, max_length=length + 1)
    except zstd.ZstdError as failure:
        raise DeltaError(f"{what} is damaged: {failure}") from None
    if len(result) <= length and not reader.eof:
        raise DeltaError(f"{what} ends too early")
    if len(result) > length or reader.unused_data:
        raise DeltaError(f"{what} is longer than the {length} bytes that are needed")
    return result
