"""What `init` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repo_builder.spec.types import TorchSource


@dataclass(frozen=True)
class Request:
    """What `init` is asked: targets (names or globs), int8, and the user's data with its label.

    `spec` is the file to write; `force` replaces data files that exist. `onnx` is the model; of the
    PyTorch net `net` it is its code, until it is exported to be looked at.
    """

    name: str
    onnx: Path
    spec: Path
    targets: tuple[str, ...] = ("cpu",)
    int8: bool = False
    data: Path | None = None
    label: str | None = None
    force: bool = False
    net: TorchSource | None = None

    @property
    def file(self) -> Path:
        """The file that the spec names: what lies beside it is the model's."""
        return self.net.file if self.net else self.onnx
