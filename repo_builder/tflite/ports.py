"""Inputs and outputs of a written model, and how their arrays lie there and in ONNX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FILE = "ports.json"


@dataclass(frozen=True)
class Port:
    """An input or output: int8 of shape `dims` in the file, float of `shape` in ONNX.

    real = scale * (stored - zero_point). `dims` are `virtual` permuted by `order`.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    scale: float
    zero_point: int
    virtual: tuple[int, ...]
    order: tuple[int, ...]

    def store(self, values: Array) -> npt.NDArray[np.int8]:
        """Float values in ONNX's shape as the stored int8 tensor."""
        steps = np.rint(values.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        stored = np.clip(steps, -128, 127).astype(np.int8)
        return np.ascontiguousarray(stored.reshape(self.virtual).transpose(self.order))

    def load(self, stored: Array) -> npt.NDArray[np.float32]:
        """The stored int8 tensor as float values in ONNX's shape."""
        values = stored.astype(np.float32) - np.float32(self.zero_point)
        values = values.reshape(self.dims).transpose(np.argsort(self.order))
        return (values * np.float32(self.scale)).reshape(self.shape)


@dataclass(frozen=True)
class Ports:
    """All inputs and outputs, in ONNX's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def write(self, folder: Path) -> None:
        """Write `ports.json`; equal ports give equal bytes."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Ports:
        """What `write` wrote."""
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(_ports(stored["inputs"]), _ports(stored["outputs"]))


def _ports(stored: Sequence[dict[str, Any]]) -> tuple[Port, ...]:
    ports = []
    for port in stored:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in port.items()
        }
        ports.append(Port(**fields))
    return tuple(ports)
