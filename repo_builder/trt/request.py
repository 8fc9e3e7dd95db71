"""What a plan is to be: everything that decides its content but the machine that builds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repo_builder.base import digest
from repo_builder.base.errors import ModelError

if TYPE_CHECKING:
    from repo_builder.targets.types import HardwareCompatibility

FILE = "tensorrt.json"


@dataclass(frozen=True)
class Profile:
    """The shapes of one input that the plan serves, and the one it is fastest for."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """`model` is the sha256 of the ONNX file; `profiles` has an entry for each dynamic input.

    `workspace_mb` (1024^2 bytes) limits scratch memory of layers; 0 leaves it to TensorRT. With
    `dla_core` layers run on that DLA, and on the GPU where the DLA cannot. `version_compatible`
    and `hardware` trade speed for a plan that fits more TensorRT versions and GPUs.
    """

    model: str
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    workspace_mb: int = 0
    dla_core: int | None = None
    version_compatible: bool = False
    hardware: HardwareCompatibility = "none"

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record

    def write(self, folder: Path) -> None:
        """Write `tensorrt.json`; equal requests give equal bytes."""
        text = json.dumps(self.to_json(), indent=2, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Request:
    """What `Request.write` wrote. ModelError where it is damaged, or beside another model."""
    file = folder / FILE
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        profiles = {
            name: Profile(tuple(p["min"]), tuple(p["opt"]), tuple(p["max"]))
            for name, p in stored.pop("profiles").items()
        }
        request = Request(profiles=profiles, **stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise ModelError(
            f"{file}: not a request for a plan; build the repository again"
        ) from failure
    if digest.of_file(folder / "model.onnx") != request.model:
        raise ModelError(f"{folder / 'model.onnx'} is not the model that {FILE} asks for")
    return request
