"""Weights of an ONNX model that lie in files of their own: are they there, and whole?

As ONNX Runtime 1.32 looks for them (ValidateExternalDataPathFromDir in tensorprotoutils.cc, and
tensor_external_data_info.cc).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}
"""TensorProto.DataType -> bits of an element; a string has no size, and lies in no file."""


@dataclass(frozen=True)
class External:
    """A tensor whose values are elsewhere: its name, dims, TensorProto.DataType, and the entries of
    `external_data`: location, offset and length in bytes, as texts."""

    name: str
    dims: tuple[int, ...]
    data_type: int
    entries: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return -(-math.prod(self.dims) * _BITS.get(self.data_type, 0) // 8)

    def problem(self, model: Path) -> str:
        """Why the weights cannot be read beside the file `model`; "" where they can."""
        location = self.entries.get("location", "")
        if not location:
            return f"the weights '{self.name}' name no file"
        if Path(location).is_absolute():
            return f"the weights '{self.name}' are in {location}; an absolute path is refused"
        path = model.parent / location
        homes = (model.parent.resolve(), model.resolve().parent)
        if not any(path.resolve().is_relative_to(home) for home in homes):
            return f"the weights '{self.name}' are in {location}, outside the model's folder"
        if not path.is_file():
            return f"the weights '{self.name}' are missing: there is no file {location}"
        return self._cut(location, path.stat().st_size)

    def _cut(self, location: str, there: int) -> str:
        """What is wrong with offset and length for a file of `there` bytes."""
        try:
            offset, length = (int(self.entries.get(key) or 0) for key in ("offset", "length"))
        except ValueError:
            return f"offset or length of the weights '{self.name}' is no number"
        if length not in (0, self.size):
            return f"the weights '{self.name}' need {self.size} bytes, the model says {length}"
        if offset < 0 or offset + self.size > there:
            need = offset + self.size
            return f"{location} has {there} bytes of the {need} that '{self.name}' needs"
        return ""
