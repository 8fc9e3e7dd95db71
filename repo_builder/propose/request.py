"""What `init` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What `init` is asked: targets (names or globs), int8, and the user's data with its label.

    `spec` is the file to write; `force` replaces data files that exist.
    """

    name: str
    onnx: Path
    spec: Path
    targets: tuple[str, ...] = ("cpu",)
    int8: bool = False
    data: Path | None = None
    label: str | None = None
    force: bool = False
