"""Reads the archive that an engine saves of an image (`docker save`), layer by layer."""

from __future__ import annotations

import contextlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from repo_builder.base.errors import ImageError
from repo_builder.images.engine import Engine

_CHUNK = 1 << 20
_WHITEOUT = ".wh."  # OCI image-spec, "Whiteouts"


@dataclass(frozen=True)
class SavedImage:
    """An image as an engine saved it; readable while its `with` block runs."""

    tar: tarfile.TarFile
    config: dict[str, Any]
    names: tuple[str, ...]

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the layers, lowest first."""
        return list(self.config["rootfs"]["diff_ids"])

    @property
    def titles(self) -> list[str]:
        """What each layer is, in the words of its history."""
        history = [line for line in self.config.get("history", []) if not line.get("empty_layer")]
        found = [line.get("created_by", "").removeprefix("repo-builder: ") for line in history]
        return (
            found
            if len(found) == len(self.names)
            else [f"layer {i}" for i in range(len(self.names))]
        )

    def chunks(self, layer: int) -> Iterator[bytes]:
        """The tar of a layer."""
        with self._open(layer) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    @contextlib.contextmanager
    def layer(self, layer: int) -> Iterator[tarfile.TarFile]:
        """A layer, opened."""
        with self._open(layer) as file, tarfile.open(fileobj=file) as tar:
            yield tar

    def _open(self, layer: int) -> IO[bytes]:
        file = self.tar.extractfile(self.names[layer])
        if file is None:
            raise ImageError(f"the saved image lacks its layer {self.names[layer]}")
        return file

    def sizes(self) -> list[dict[str, int]]:
        """For each layer: path -> bytes of the regular files in it."""
        found = []
        for number in range(len(self.names)):
            with self.layer(number) as tar:
                found.append({_plain(m.name): m.size for m in tar if m.isreg()})
        return found

    def read(self, *prefixes: str) -> dict[str, bytes]:
        """The files below some paths as the container sees them: upper layers win."""
        found: dict[str, bytes] = {}
        for number in range(len(self.names)):
            with self.layer(number) as tar:
                for member in tar:
                    path = _plain(member.name)
                    folder, _, name = path.rpartition("/")
                    if name.startswith(_WHITEOUT):
                        hidden = f"{folder}/{name.removeprefix(_WHITEOUT)}"
                        whole = folder if name == f"{_WHITEOUT}{_WHITEOUT}.opq" else hidden
                        found = {
                            p: c
                            for p, c in found.items()
                            if p != whole and not p.startswith(f"{whole}/")
                        }
                    elif member.isdir() or not path.startswith(prefixes):
                        continue
                    elif (file := tar.extractfile(member)) is not None and not member.issym():
                        found[path] = file.read()
                    else:
                        raise ImageError(f"/{path} in the image is no regular file")
        return found


@contextlib.contextmanager
def saved(engine: Engine, reference: str) -> Iterator[SavedImage]:
    """Save an image to a temporary file and read it; the file goes with the block."""
    with tempfile.TemporaryFile() as file:
        try:
            engine.save(reference, file)
        except OSError as failure:
            raise ImageError(f"save {reference}: {failure.strerror}; free some space") from failure
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            try:
                index = json.loads(_member(tar, "manifest.json"))[0]
                config = json.loads(_member(tar, index["Config"]))
                yield SavedImage(tar, config, tuple(index["Layers"]))
            except (KeyError, ValueError, IndexError, tarfile.TarError) as failure:
                raise ImageError(
                    f"save {reference}: not an image archive: {failure!r}"
                ) from failure


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return file.read() if file is not None else b""


def _plain(name: str) -> str:
    return name.removeprefix("./").rstrip("/")
