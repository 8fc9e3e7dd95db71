"""A content-addressed store of what steps made. It remembers; it never decides.

    blobs/ab/abcd...       file contents, named by their sha256, read-only
    entries/ab/abcd....json  what a step made, by its key
    recalls/digits@cpu.json  the recipes of the last good build of each model@target
    texts/ab/abcd....json  what was rendered, by what shaped it
    logs/abcd....log       what a step printed
    searches/              what `optimize: auto` found; written by it
    loads/                 what budgets under load were found to be
    training/              where trainings go on that were killed; made by their step
    tmp/                   work in progress

Blobs and entries appear by rename, entries last, so a process killed at any instant leaves nothing
that a later one would mistake for whole. A JSON file starts with the digest of the rest; a blob is
checked against its name whenever it is fetched. What does not match is dropped, and its step runs
again. Builds hold a shared lock; garbage collection takes it alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base import digest, progress
from repo_builder.base.artifact import Artifact, Blob, Entry
from repo_builder.base.digest import Json
from repo_builder.base.errors import StoreError, disk_fix

_CHUNK = 1 << 20


class CorruptEntry(StoreError):
    """A stored file does not match its name; it has been dropped. `key` is the entry's key."""

    def __init__(self, key: str, name: str) -> None:
        super().__init__(f"store entry {key[:12]} is damaged ({name}); check the disk")
        self.args = (key, name)
        self.key = key


@dataclass(frozen=True)
class Usage:
    """What the store holds: number and bytes."""

    entries: int
    blobs: int
    size: int


@contextlib.contextmanager
def _wrap_disk_errors(root: Path) -> Iterator[None]:
    """Turn failures of the disk into one line that says what to do."""
    try:
        yield
    except OSError as failure:
        raise disk_error(root, failure) from failure


def disk_error(root: Path, failure: OSError) -> StoreError:
    """The error to raise where the disk below the store `root` refuses."""
    what = f"{failure.strerror or failure}; {disk_fix(failure)}"
    return StoreError(f"the store {root}: {what}, or name another folder with --store")


class Store:
    """The store below the folder `root`, which is made when it is first written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> Entry | None:
        """The entry with this key, or None where it, or any of its blobs, is not there whole."""
        raw = self.read_json(self._entry_path(key))
        try:
            blobs = {name: Blob(*blob) for name, blob in raw["files"].items()}
            entry = Entry(raw["key"], raw["recipe"], Artifact(blobs), raw["facts"], raw["seconds"])
            for blob in blobs.values():
                if self._blob_path(blob.sha256).stat().st_size != blob.size:
                    return None
        except (OSError, LookupError, TypeError, AttributeError):
            return None  # absent, or of another format: the step runs again
        return entry if entry.key == key else None

    def files(self, key: str) -> list[Path]:
        """Where the entry with this key lies, and its blobs; [] where it is not there whole."""
        entry = self.get(key)
        if entry is None:
            return []
        blobs = [self._blob_path(blob.sha256) for blob in entry.artifact.files.values()]
        return [self._entry_path(key), *blobs]

    def put(
        self,
        key: str,
        recipe: Mapping[str, Json],
        folder: Path,
        facts: Mapping[str, Json],
        seconds: float,
    ) -> Entry:
        """Take over all files below `folder` (which must lie in `workspace()`) as an entry."""
        with _wrap_disk_errors(self.root):
            files = {}
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    raise StoreError(f"a step left something that is not a plain file: {path.name}")
                if path.is_file():
                    files[path.relative_to(folder).as_posix()] = self._take(path)
            entry = Entry(key, recipe, Artifact(files), facts, seconds)
            self._write_entry(entry)
        return entry

    def add(self, entry: Entry, contents: Mapping[str, bytes]) -> Entry:
        """Take over an entry of another store, with the contents of its files by digest."""
        with _wrap_disk_errors(self.root):
            for blob in entry.artifact.files.values():
                if digest.of_bytes(contents[blob.sha256]) != blob.sha256:
                    raise StoreError(f"entry {entry.key[:12]} came with damaged contents")
                if not self._blob_path(blob.sha256).exists():
                    self._write(self._blob_path(blob.sha256), contents[blob.sha256])
            self._write_entry(entry)
        return entry

    def read(self, entry: Entry, name: str) -> bytes:
        """Content of one of the entry's files; CorruptEntry where it does not match its name."""
        sha256 = entry.artifact.files[name].sha256
        try:
            content = self._blob_path(sha256).read_bytes()
        except FileNotFoundError:
            raise CorruptEntry(entry.key, name) from None
        if digest.of_bytes(content) != sha256:
            with _wrap_disk_errors(self.root):
                self._blob_path(sha256).unlink(missing_ok=True)
            raise CorruptEntry(entry.key, name)
        return content

    def drop(self, key: str) -> None:
        """Forget an entry; its blobs stay until they are collected."""
        with _wrap_disk_errors(self.root):
            self._entry_path(key).unlink(missing_ok=True)

    def fetch(self, entry: Entry, folder: Path) -> None:
        """Copy the entry's files below `folder`; CorruptEntry where one does not match its name."""
        for name, blob in entry.artifact.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = self._blob_path(blob.sha256)
            state = hashlib.sha256()
            try:
                with (
                    source.open("rb") as reader,
                    target.open("wb") as writer,
                    progress.copying(f"copying {name}", blob.size) as copied,
                ):
                    while chunk := reader.read(_CHUNK):
                        state.update(chunk)
                        writer.write(chunk)
                        copied(len(chunk))
            except FileNotFoundError:
                raise CorruptEntry(entry.key, name) from None
            if state.hexdigest() != blob.sha256:
                with _wrap_disk_errors(self.root):
                    source.unlink(missing_ok=True)
                raise CorruptEntry(entry.key, name)

    def recall(self, name: str) -> dict[str, dict[str, Any]]:
        """Step -> recipe of the last good build of `name` (a model@target); {} where none was."""
        recipes = self.read_json(self._recall_path(name))
        return recipes if isinstance(recipes, dict) else {}

    def remember(self, name: str, recipes: Mapping[str, Mapping[str, Json]]) -> None:
        """Keep the recipes of a good build of `name`; its entries survive garbage collection."""
        if self.recall(name) != recipes:
            self.write_json(self._recall_path(name), recipes)

    def recall_texts(self, shaped_by: Json) -> dict[str, str] | None:
        """The texts that were rendered from `shaped_by`, by name; None where none were."""
        texts: dict[str, str] | None = self.read_json(self._texts_path(shaped_by))
        return texts

    def remember_texts(self, shaped_by: Json, texts: Mapping[str, str]) -> None:
        """Keep texts until the next garbage collection."""
        self.write_json(self._texts_path(shaped_by), texts)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the store for a build: nothing is collected meanwhile.

        The first to come sweeps up what killed builds left in `tmp/`.
        """
        with self._lock() as lock:
            with _wrap_disk_errors(self.root):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(self.root / "tmp", ignore_errors=True)
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder on the store's disk, removed at the end."""
        with _wrap_disk_errors(self.root):
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.root / "tmp"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def log(self, key: str) -> Path:
        """Where the output of the step with this key goes."""
        with _wrap_disk_errors(self.root):
            (self.root / "logs").mkdir(parents=True, exist_ok=True)
        return self.root / "logs" / f"{key}.log"

    def usage(self) -> Usage:
        """Count entries, blobs and bytes."""
        with _wrap_disk_errors(self.root):
            sizes = [path.stat().st_size for path in self._blobs()]
        return Usage(len(list(self._entries())), len(sizes), sum(sizes))

    def verify(self) -> list[str]:
        """Read everything; drop and name what does not match its name."""
        broken = []
        with self.in_use(), _wrap_disk_errors(self.root):
            for path in self._blobs():
                if digest.of_file(path) != path.name:
                    path.unlink()
                    broken.append(f"blob {path.name[:12]}")
            for path in self._entries():
                if self.get(path.stem) is None:
                    path.unlink()
                    broken.append(f"entry {path.stem[:12]}")
        return broken

    def collect(self) -> Usage:
        """Remove all that no last good build needs; returns what was removed.

        StoreError where a build is using the store.
        """
        with self._lock() as lock, _wrap_disk_errors(self.root):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"the store {self.root} is in use by a build; try again when it has ended"
                ) from None
            before = self.usage()
            # In "training": trainings that never ended.
            for folder in ("tmp", "texts", "training", "loads"):
                shutil.rmtree(self.root / folder, ignore_errors=True)
            kept = {
                digest.of_json(recipe)
                for path in (self.root / "recalls").glob("*.json")
                for recipe in self.recall(path.stem).values()
            }
            needed: set[str] = set()
            for path in self._entries():
                entry = self.get(path.stem) if path.stem in kept else None
                if entry is None:
                    path.unlink()
                else:
                    needed.update(blob.sha256 for blob in entry.artifact.files.values())
            for path in self._blobs():
                if path.name not in needed:
                    path.unlink()
            for path in (self.root / "logs").glob("*.log"):
                if path.stem not in kept:
                    path.unlink()
            after = self.usage()
        return Usage(
            before.entries - after.entries, before.blobs - after.blobs, before.size - after.size
        )

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        """The lock file, open; the lock itself ends with it, however the process ends."""
        with _wrap_disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield lock
        finally:
            os.close(lock)

    def _entries(self) -> list[Path]:
        return sorted((self.root / "entries").glob("*/*.json"))

    def _blobs(self) -> list[Path]:
        return sorted((self.root / "blobs").glob("*/*"))

    def _entry_path(self, key: str) -> Path:
        return self.root / "entries" / key[:2] / f"{key}.json"

    def _blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256[:2] / sha256

    def _texts_path(self, shaped_by: Json) -> Path:
        key = digest.of_json(shaped_by)
        return self.root / "texts" / key[:2] / f"{key}.json"

    def _recall_path(self, name: str) -> Path:
        return self.root / "recalls" / f"{name}.json"

    def _take(self, path: Path) -> Blob:
        blob = Blob(digest.of_file(path), path.stat().st_size)
        target = self._blob_path(blob.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o444)
        path.replace(target)
        return blob

    def _write_entry(self, entry: Entry) -> None:
        self.write_json(
            self._entry_path(entry.key),
            {
                "key": entry.key,
                "recipe": entry.recipe,
                "files": {n: [blob.sha256, blob.size] for n, blob in entry.artifact.files.items()},
                "facts": entry.facts,
                "seconds": entry.seconds,
            },
        )

    def read_json(self, path: Path) -> Any:
        """What `write_json` wrote; None where there is nothing, or it is not whole."""
        try:
            head, _, body = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        return json.loads(body) if digest.of_bytes(body).encode() == head else None

    def write_json(self, path: Path, value: Json) -> None:
        """Write a file of the store in one step: a reader sees the old or the new one."""
        body = digest.canonical(value)
        self._write(path, digest.of_bytes(body).encode() + b"\n" + body)

    def _write(self, path: Path, content: bytes) -> None:
        with _wrap_disk_errors(self.root), self.workspace() as folder:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = folder / path.name
            draft.write_bytes(content)
            draft.replace(path)


def default_root() -> Path:
    """Where the store lies unless `--store` says otherwise: below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "repo-builder"
