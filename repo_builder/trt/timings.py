"""TensorRT's timing cache: what it learnt of the speed of kernels, kept from build to build."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from repo_builder.base import digest
from repo_builder.trt.record import Device


@dataclass(frozen=True)
class Timings:
    """The timing cache of one device in a folder; another GPU or TensorRT has another file."""

    folder: Path
    device: Device

    @property
    def file(self) -> Path:
        """Where it lies."""
        return self.folder / f"timings-{digest.of_json(asdict(self.device))[:16]}.bin"

    def read(self) -> bytes:
        """What is known so far; b"" at first."""
        return self.file.read_bytes() if self.file.is_file() else b""

    def write(self, content: bytes) -> None:
        """Keep `content` for the next build."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self.file, content)


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is whole at any instant, also when power is lost."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
