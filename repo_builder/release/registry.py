"""A registry of releases that is files.

    registry.json               its format
    blobs/sha256/ab/abcd...     every file of every release, once
    releases/NAME/VERSION.json  records, never changed
    channels/CHANNEL.json       which version of each model a channel offers
    yanked/NAME/VERSION.json    why a version must not be used any more

A publisher brings blobs first, then the record, then the channel, so that whatever is named is
there: killed at any instant, it leaves a whole registry, and doing it again finishes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base import digest
from repo_builder.base.errors import StoreError, UsageError, did_you_mean
from repo_builder.release import types
from repo_builder.release.folder import Folder
from repo_builder.release.types import Release

_MARK = "registry.json"
_FORMAT = digest.canonical({"format": 1})


@dataclass(frozen=True)
class Damage:
    """A blob that is missing or damaged, and the releases that need it."""

    sha256: str
    what: str
    needed_by: tuple[str, ...]


class Registry:
    """The registry in the folder `root`; StoreError where there is none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = Folder(root)
        found = self._folder.read(_MARK, 4096)
        if found is None:
            raise StoreError(f"{root}: is no registry; make one: repo-builder registry init {root}")
        if found != _FORMAT:
            raise StoreError(f"{root}: was made by another version of repo-builder; upgrade it")

    def names(self) -> list[str]:
        """The models that have releases."""
        return self._folder.names("releases")

    def versions(self, name: str) -> list[str]:
        """The released versions of a model, oldest number first; yanked ones too."""
        found = self._folder.names(f"releases/{types.checked_name(name, 'model')}")
        listed = [file.removesuffix(".json") for file in found if file.endswith(".json")]
        return sorted(listed, key=types.numbers)

    def release(self, text: str) -> Release:
        """The release NAME:VERSION; UsageError, with what may be meant, where there is none."""
        name, version = types.parse_id(text)
        file = f"releases/{name}/{version}.json"
        content = self._folder.read(file, types.LARGEST)
        if content is None:
            known = [f"{name}:{one}" for one in self.versions(name)] or self.names()
            hint = did_you_mean(text if self.versions(name) else name, known)
            raise UsageError(f"{self.root}: has no {text}" + (f"; {hint}" if hint else ""))
        found = types.read(content, str(self.root / file))
        if found.id != text:
            raise StoreError(f"{self.root / file}: is damaged: it is the record of {found.id}")
        return found

    def channels(self) -> dict[str, dict[str, str]]:
        """Each channel's models and the version that it offers of each."""
        files = self._folder.names("channels")
        return {f.removesuffix(".json"): self._channel(f.removesuffix(".json")) for f in files}

    def yanked(self, text: str) -> str | None:
        """Why a version was yanked; None where it was not."""
        name, version = types.parse_id(text)
        file = f"yanked/{name}/{version}.json"
        content = self._folder.read(file, types.LARGEST)
        return None if content is None else str(self._json(content, file)["reason"])

    def blob(self, sha256: str) -> Path:
        """Where the content of a file lies."""
        return self._folder.blob(sha256)

    def publish(
        self, new: Sequence[tuple[Release, Mapping[str, Path]]], channel: str
    ) -> dict[str, bool]:
        """Publish releases, each with the folder of each target's model, and offer them.

        Returns for every release whether it is new. UsageError where a version exists with other
        bytes or was yanked; then nothing is published.
        """
        types.checked_name(channel, "channel")
        for release, _ in new:
            self._known(release)
        for release, folders in new:
            for target, artifact in release.targets.items():
                for path, (sha256, size) in artifact.files.items():
                    self._folder.add_blob(folders[target] / path, sha256, size)
        with self._folder.locked():
            made = {release.id: not self._known(release) for release, _ in new}
            for release, _ in new:
                if made[release.id]:
                    file = f"releases/{release.name}/{release.version}.json"
                    self._folder.write(file, release.text())
            self._offer(channel, {release.name: release.version for release, _ in new})
        return made

    def promote(self, text: str, channel: str) -> None:
        """Let a channel offer NAME:VERSION, also where it is older than what it offers now."""
        types.checked_name(channel, "channel")
        with self._folder.locked():
            release = self.release(text)
            if reason := self.yanked(text):
                raise UsageError(f"{text} was yanked: {reason}; promote another version")
            self._offer(channel, {release.name: release.version})

    def yank(self, text: str, reason: str) -> list[str]:
        """Say that a version must not be used, and take it off its channels, which are returned.

        Its number is never free again. UsageError where no reason is given.
        """
        if not reason.strip():
            raise UsageError(f"{text}: say why, with --reason")
        with self._folder.locked():
            release = self.release(text)
            if self.yanked(text) is None:
                file = f"yanked/{release.name}/{release.version}.json"
                self._folder.write(file, digest.canonical({"format": 1, "reason": reason}))
            left = []
            for channel, offers in self.channels().items():
                if offers.get(release.name) == release.version:
                    del offers[release.name]
                    self._write_channel(channel, offers)
                    left.append(channel)
        return left

    def verify(self, only: Sequence[str] = ()) -> list[Damage]:
        """Read every blob of all releases, or of `only` these; what is missing or damaged."""
        ids = only or [f"{name}:{v}" for name in self.names() for v in self.versions(name)]
        needed: dict[tuple[str, int], set[str]] = {}
        for text in ids:
            for artifact in self.release(text).targets.values():
                for sha256, size in artifact.files.values():
                    needed.setdefault((sha256, size), set()).add(text)
        found = []
        for (sha256, size), by in sorted(needed.items()):
            path = self._folder.blob(sha256)
            with self._folder.explained():
                if not path.is_file():
                    what = "is missing"
                elif path.stat().st_size != size or digest.of_file(path) != sha256:
                    what = "is damaged"
                else:
                    continue
            found.append(Damage(sha256, what, tuple(sorted(by))))
        return found

    def _known(self, release: Release) -> bool:
        """Whether this very release is there; UsageError where its number is taken."""
        if reason := self.yanked(release.id):
            what = f"{release.id} was yanked: {reason}"
            raise UsageError(f"{what}; write a higher version in its spec and build")
        if release.version not in self.versions(release.name):
            return False
        if self.release(release.id).files != release.files:
            what = f"{release.id} was released with other files or targets"
            raise UsageError(f"{what}; write a higher version in its spec and build")
        return True

    def _offer(self, channel: str, versions: Mapping[str, str]) -> None:
        offers = self._channel(channel)
        if {**offers, **versions} != offers:
            self._write_channel(channel, {**offers, **versions})

    def _channel(self, channel: str) -> dict[str, str]:
        file = f"channels/{channel}.json"
        content = self._folder.read(file, types.LARGEST)
        return {} if content is None else dict(self._json(content, file)["models"])

    def _write_channel(self, channel: str, offers: Mapping[str, str]) -> None:
        content = digest.canonical({"format": 1, "models": offers})
        self._folder.write(f"channels/{channel}.json", content)

    def _json(self, content: bytes, file: str) -> dict[str, Any]:
        try:
            plain: dict[str, Any] = json.loads(content)
            if plain["format"] == 1 and plain.keys() & {"models", "reason"}:
                return plain
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
        raise StoreError(f"{self.root / file}: is damaged; restore it from a copy")


def init(root: Path) -> Registry:
    """Make a registry in `root`, or find it there; StoreError where it holds other things."""
    folder = Folder(root)
    with folder.explained():
        root.mkdir(parents=True, exist_ok=True)
    if folder.names(".") and folder.read(_MARK, 4096) is None:
        raise StoreError(f"{root}: holds other files; name a new folder")
    with folder.locked():
        if folder.read(_MARK, 4096) is None:
            folder.write(_MARK, _FORMAT)
    return Registry(root)
