"""A tensor in a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tensor:
    """`length` bytes at `offset`; `type` is f4, f2, i4, i2 or i1 by what a number's bytes are."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where the bytes after it begin."""
        return self.offset + self.length
