"""The manifest of a built repository, as `repository.publish` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import digest
from repo_builder.base.errors import ImageError, UsageError

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """One model: its version, its digest, and its files: path below its folder -> bytes.

    `planned` says that its TensorRT plan is made while the image is built, `later` that the device
    makes it.
    """

    name: str
    version: str
    digest: str
    files: Mapping[str, int]
    tools: Mapping[str, str]
    planned: bool = False
    later: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    @property
    def rank(self) -> tuple[int, int, str]:
        """Sorts models by how seldom they are released, then by size, largest first.

        The parts of a version count releases. A release only ever moves a model up, so it never
        costs a puller more than the layers that lay above it anyway; see docs/adr.
        """
        releases = sum(int(part) for part in self.version.split("."))
        return releases, -self.size.bit_length(), self.name


@dataclass(frozen=True)
class Manifest:
    """What is in a folder that `repo-builder build` made."""

    folder: Path
    text: bytes
    target: str
    builder: str
    models: tuple[Model, ...]

    @property
    def digest(self) -> str:
        """The sha256 of the file's bytes."""
        return digest.of_bytes(self.text)


def read(folder: Path) -> Manifest:
    """The manifest of `folder`, its models by rank; every file is checked against it.

    Raises UsageError where there is none, ImageError where files differ from it.
    """
    from repo_builder.images.inside import check

    path = folder / "manifest.json"
    try:
        text = path.read_bytes()
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise UsageError(f"{path} has format {raw['format']}, not {FORMAT}; build it again")
        models = [
            Model(
                name,
                record["version"],
                record["digest"],
                {file: size for file, (_, size) in record["files"].items()},
                record.get("tools", {}),
                *((record.get("compiler") or {}).get("at") == at for at in ("image", "device")),
            )
            for name, record in raw["models"].items()
        ]
        models.sort(key=lambda model: model.rank)
    except FileNotFoundError:
        raise UsageError(f"{path}: not there; run repo-builder build first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UsageError(f"{path} is damaged ({failure!r}); build it again") from None
    problems = check.models(text, folder / "models")
    if problems:
        raise ImageError(
            f"{folder} is not what its manifest says ({problems[0]}"
            + (f", and {len(problems) - 1} more" if len(problems) > 1 else "")
            + "); build it again"
        )
    return Manifest(folder, text, raw["target"], raw["builder"], tuple(models))
