"""Where a plan fits: the record beside it, a device's facts, and what speaks against the two.

The rules are TensorRT's "Engine Compatibility": without flags, a plan loads in the very version of
TensorRT and on the very kind of GPU that it was built with, and never on another platform.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from repo_builder.base import digest
from repo_builder.base.errors import ModelError, Problem

if TYPE_CHECKING:
    from repo_builder.targets.types import HardwareCompatibility

FILE = "portability.json"
PLAN = "model.plan"
CONFIG = "tensorrt.pbtxt"
"""Below `configs/`: what Triton loads once the plan of a model is there."""

Of = TypeVar("Of", "Record", "Device")


@dataclass(frozen=True)
class Device:
    """The machine that loads or builds plans.

    `tensorrt` is a version with as many parts as are known (`10.3`), `compute_capability` the
    GPU's (`8.7`), `gpu` its name, `platform` is `linux-aarch64` or `linux-x86_64`.
    """

    tensorrt: str
    compute_capability: str
    gpu: str
    platform: str


@dataclass(frozen=True)
class Record:
    """What a plan is tied to. `plan` and `model` are sha256 of the plan and of its ONNX model."""

    plan: str
    model: str
    tensorrt: str
    compute_capability: str
    gpu: str
    platform: str
    version_compatible: bool
    hardware: HardwareCompatibility
    dla_core: int | None

    def write(self, folder: Path) -> None:
        """Write `portability.json`, with a digest of its content."""
        content = asdict(self)
        text = json.dumps(
            {"record": content, "digest": digest.of_json(content)}, indent=2, sort_keys=True
        )
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Record:
    """The record in `folder`. ModelError: damaged, changed by hand, or beside another plan."""
    file = folder / FILE
    rebuild = "build the plan again"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        content = stored["record"]
        whole = digest.of_json(content) == stored["digest"]
        record = _typed(Record, content)
    except FileNotFoundError as failure:
        raise ModelError(
            f"{file} is missing: nobody knows where the plan fits; {rebuild}"
        ) from failure
    except (ValueError, KeyError, TypeError) as failure:
        raise ModelError(f"{file}: not a portability record; {rebuild}") from failure
    if not whole:
        raise ModelError(f"{file} was changed after it was written; {rebuild}")
    if digest.of_file(folder / PLAN) != record.plan:
        raise ModelError(f"{folder / PLAN} is not the plan that {FILE} describes; {rebuild}")
    return record


def device_from(text: str, where: str) -> Device:
    """A device as JSON, as `repo-builder preflight --probe` prints it; ModelError otherwise."""
    try:
        return _typed(Device, json.loads(text))
    except (ValueError, TypeError) as failure:
        names = ", ".join(field.name for field in fields(Device))
        raise ModelError(f"{where}: not a device; it has the fields {names}") from failure


def _typed(kind: type[Of], content: Mapping[str, Any]) -> Of:
    """`content` as `kind`; TypeError where fields are missing, unknown, or of another type."""
    made = kind(**content)
    for field in fields(kind):
        value = content[field.name]
        if field.name == "version_compatible":
            right = isinstance(value, bool)
        elif field.name == "dla_core":
            right = value is None or (isinstance(value, int) and not isinstance(value, bool))
        else:
            right = isinstance(value, str)
        if not right:
            raise TypeError(field.name)
    return made


def mismatches(record: Record, device: Device) -> list[Problem]:
    """Everything that keeps `device` from loading the plan; empty where it fits."""
    problems = []
    if record.platform != device.platform:
        what = f"built on {record.platform}, the device is {device.platform}"
        problems.append(
            Problem(what, "plans never cross platforms: build it there", field="platform")
        )
    if why := _version(record, device):
        problems.append(Problem(*why, field="tensorrt"))
    if why := _hardware(record, device):
        problems.append(Problem(*why, field="gpu"))
    return problems


def _version(record: Record, device: Device) -> tuple[str, str] | None:
    built, here = _parts(record.tensorrt), _parts(device.tensorrt)
    known = min(len(built), len(here))
    if built[:known] == here[:known]:
        return None
    what = f"built with TensorRT {record.tensorrt}, the device has {device.tensorrt}"
    if not record.version_compatible:
        return what, "build it there, or version compatible"
    if here < built:
        return what, "a plan never loads in an older TensorRT: build it there"
    # The only step across a major version that NVIDIA supports from 10 on.
    if here[0] != built[0] and (built[0], here[0]) != (10, 11):
        return what, "compatible plans end with the next major version: build it there"
    return None


def _hardware(record: Record, device: Device) -> tuple[str, str] | None:
    what = (
        f"built on {record.gpu} (compute capability {record.compute_capability}), the device has "
        f"{device.gpu} ({device.compute_capability})"
    )
    same = record.compute_capability == device.compute_capability
    if record.hardware == "ampere_plus":
        fits = _parts(device.compute_capability) >= (8, 0)
        return None if fits else (what, "it needs an Ampere GPU or newer")
    if record.hardware == "same_compute_capability":
        return None if same else (what, "build it for that compute capability")
    fits = same and record.gpu == device.gpu
    return None if fits else (what, "build it there, or hardware compatible")


def _parts(version: str) -> tuple[int, ...]:
    """`10.3.0` -> (10, 3, 0); what is no number ends it."""
    parts = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
