"""A folder of files that appear whole: small ones by rename, blobs resumed where they were cut off.

blobs/sha256/ab/abcd...    content, by its sha256
.partial/abcd...           what came of a blob so far
.lock                      held by whoever changes records
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import digest
from repo_builder.base.errors import StoreError, disk_fix


@dataclass(frozen=True)
class Folder:
    """The files of a registry below `root`."""

    root: Path

    def read(self, name: str, largest: int) -> bytes | None:
        """The file's bytes; None where there is none. StoreError where it is above `largest`."""
        path = self.root / name
        with self.explained():
            try:
                with path.open("rb") as file:
                    content = file.read(largest + 1)
            except FileNotFoundError:
                return None
        if len(content) > largest:
            raise StoreError(f"{path}: is damaged: larger than {largest} bytes")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step; call it while `locked`."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.new")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted, less hidden ones; [] where there is no folder."""
        with self.explained():
            try:
                found = [path.name for path in (self.root / folder).iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in found if not name.startswith("."))

    def blob(self, sha256: str) -> Path:
        """Where the blob lies."""
        return self.root / "blobs" / "sha256" / sha256[:2] / sha256

    def add_blob(self, source: Path, sha256: str, size: int) -> bool:
        """Copy `source` in as a blob; False where it is there. Goes on where a copy was cut off.

        StoreError where `source` does not have this digest, or the disk refuses.
        """
        path, partial = self.blob(sha256), self.root / ".partial" / sha256
        with self.explained():
            if path.is_file() and path.stat().st_size == size:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.parent.mkdir(exist_ok=True)
            with partial.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.is_file() and path.stat().st_size == size:  # another one brought it
                    return False
                if not partial.exists():  # another one brought it, and it is damaged since
                    raise StoreError(f"{path}: changes meanwhile; try again")
                if _copy_rest(source, partial) != sha256:
                    file.truncate(0)
                    if _copy_rest(source, partial) != sha256:
                        file.truncate(0)
                        raise StoreError(f"{source}: is damaged or was changed; build it again")
                partial.replace(path)
            _sync(path.parent)
        return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One publisher at a time changes records; others wait. Disk errors become StoreErrors."""
        with self.explained():
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Say what a disk refuses in one line."""
        try:
            yield
        except OSError as failure:
            where = failure.filename or self.root
            raise StoreError(f"{where}: {failure.strerror}; {disk_fix(failure)}") from failure


def _copy_rest(source: Path, partial: Path) -> str:
    """Append what `partial` lacks of `source`; the sha256 of all of it."""
    with source.open("rb") as old, partial.open("ab") as new:
        old.seek(new.tell())
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())
    return digest.of_file(partial)


def _sync(folder: Path) -> None:
    """Make a rename in `folder` outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
