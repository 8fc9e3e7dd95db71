"""The record of a release: what exactly `digits:1.3.0` is, for every target.

Canonical JSON, read strictly, with the standard library alone: devices read it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from repo_builder.base import digest
from repo_builder.base.errors import StoreError, UsageError

FORMAT = 1
LARGEST = 4 << 20
"""Bytes of a record; a larger one is not read."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """What one target gets of a release.

    `files` maps POSIX paths below the model's folder to (sha256, bytes), `folder` is where it lies
    in a repository. `interface` is a digest of the tensors ("" where the build recorded none),
    `labels` maps each file of labels to its sha256. `score`, `latency`, `energy` and `confidence`
    are as in report.json; None where they were not measured.
    """

    folder: str
    files: Mapping[str, tuple[str, int]]
    precision: str
    level: str
    level_reason: str
    interface: str
    labels: Mapping[str, str]
    score: Mapping[str, Any] | None
    latency: Mapping[str, Any] | None
    energy: Mapping[str, Any] | None
    confidence: Mapping[str, Any] | None
    tools: Mapping[str, str]
    provenance: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files.values())


@dataclass(frozen=True)
class Release:
    """One version of one model; it never changes. `epoch` is the security epoch, `commit` Git's."""

    name: str
    version: str
    epoch: int
    changelog: str
    builder: str
    commit: str
    built: str
    targets: Mapping[str, Artifact]

    @property
    def id(self) -> str:
        """Such as "digits:1.3.0"."""
        return f"{self.name}:{self.version}"

    @property
    def files(self) -> dict[str, Mapping[str, tuple[str, int]]]:
        """The files of every target: what makes two releases the same."""
        return {target: artifact.files for target, artifact in self.targets.items()}

    def text(self) -> bytes:
        """The record as canonical JSON."""
        return digest.canonical({"format": FORMAT, **asdict(self)})


def numbers(version: str) -> tuple[int, int, int]:
    """MAJOR, MINOR and PATCH of a version; UsageError where it is none."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise UsageError(f"'{version}' is no version; write MAJOR.MINOR.PATCH, such as 1.3.0")
    return int(found[1]), int(found[2]), int(found[3])


def checked_name(name: str, what: str) -> str:
    """`name`, where it can be a part of a path; UsageError else."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name of a {what}; use letters, digits, _, - and .")
    return name


def parse_id(text: str) -> tuple[str, str]:
    """Name and version of NAME:VERSION; UsageError where it is another thing."""
    name, colon, version = text.partition(":")
    if not colon:
        raise UsageError(f"'{text}' names no version; write NAME:VERSION, such as digits:1.3.0")
    numbers(version)
    return checked_name(name, "model"), version


def read(text: bytes, where: str) -> Release:
    """The release that `Release.text` wrote.

    StoreError, with `where`, where it is anything else: another format, unknown or missing keys.
    """
    try:
        plain = json.loads(text)
        if plain.pop("format") != FORMAT:
            raise StoreError(f"{where}: was written by another version of repo-builder; upgrade it")
        targets = {target: _artifact(value) for target, value in plain.pop("targets").items()}
        release = Release(targets=targets, **plain)
        if type(release.epoch) is not int:
            raise ValueError
        known = release.text() == text
        parse_id(release.id)
    except (ValueError, LookupError, TypeError, AttributeError, UsageError):
        raise StoreError(f"{where}: is damaged: it is no record of a release") from None
    if not known:
        raise StoreError(f"{where}: is damaged: it is not as it was written")
    return release


def _artifact(plain: dict[str, Any]) -> Artifact:
    if plain.keys() != {field.name for field in fields(Artifact)}:
        raise ValueError
    files = {}
    for path, (sha256, size) in plain.pop("files").items():
        # Whoever writes these files to a disk must not leave its folder.
        if not all(part not in ("", ".", "..") for part in path.split("/")) or "\\" in path:
            raise ValueError
        if not _SHA256.fullmatch(sha256) or type(size) is not int or size < 0:
            raise ValueError
        files[path] = (sha256, size)
    return Artifact(files=files, **plain)
