"""Publishes a Triton repository in one atomic swap, and keeps what was good before.

    OUT/<target>  ->  .generations/<target>/<digest>/
                          manifest.json
                          models/<name>/config.pbtxt, labels..., <version>/...
                          bundles/<name>/<version>/...

`OUT/<target>` is a symbolic link to the current generation, so a reader sees the old repository or
the new one, whole; the previous generation stays for those who still read it, and for rollback.
A generation is never changed: one that is found damaged gets a successor.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder import __version__
from repo_builder.base import console, digest
from repo_builder.base.artifact import Entry
from repo_builder.base.digest import Json
from repo_builder.base.errors import OutputError, disk_fix
from repo_builder.repository import versions
from repo_builder.spec.types import Version

FORMAT = 1
_SMALL = 65_536


@dataclass(frozen=True)
class Model:
    """A built model, ready to be published.

    `texts` are the files beside the version folder (config.pbtxt, labels), none for a `bundle`,
    which is built into a firmware and not served; `entry` holds the files of the version folder;
    `record` is what the manifest says of the model besides its files: of one that pipelines may
    use, `interface`, a digest of its tensors; of a pipeline and its stages, `pipeline`, its name,
    and `uses`, the interface of each model in it.
    """

    name: str
    version: Version
    texts: Mapping[str, bytes]
    entry: Entry
    record: Mapping[str, Json]
    bundle: bool = False

    @property
    def folder(self) -> str:
        """Where the model lies in its generation."""
        return f"{'bundles' if self.bundle else 'models'}/{self.name}"

    @property
    def version_folder(self) -> str:
        """Triton's number, or the semantic version of a bundle."""
        return str(self.version) if self.bundle else str(self.version.triton)

    def files(self) -> dict[str, tuple[str, int]]:
        """Path below `folder` -> (sha256, size)."""
        files = {name: (digest.of_bytes(text), len(text)) for name, text in self.texts.items()}
        for name, blob in self.entry.artifact.files.items():
            files[f"{self.version_folder}/{name}"] = (blob.sha256, blob.size)
        return files


@dataclass(frozen=True)
class Published:
    """The repository as it now is; `changed` is False where it already was so."""

    folder: Path
    digest: str
    changed: bool
    models: Mapping[str, Any]


def publish(
    out: Path,
    target: str,
    models: Sequence[Model],
    keep: Callable[[str], bool],
    fetch: Callable[[Entry, Path], None],
    check: Callable[[Path], None],
    count: int = 1,
) -> Published:
    """Publish `models` as `out/target`; earlier models for which `keep(name)` holds stay in it.

    Of a model with new content `count` versions stay, itself included; see `versions`.
    Before the swap `check` is called with the new generation; what it raises ends the publication.
    Raises OutputError where `out` cannot be written or `out/target` is not ours.
    """
    link = out / target
    with _wrap_disk_errors(out), _locked(out):
        current = _current(link)
        before = _manifest(current).get("models", {})
        new = {
            model.name: _with_earlier(model, current, before.get(model.name), count)
            for model in models
        }
        earlier = {
            name: record
            for name, record in before.items()
            if name not in new
            and record.get("pipeline") not in new
            and keep(record.get("pipeline", name))
            and _still_intact(current, name, record)
        }
        kept = _still_compatible(earlier, new)
        records = new | kept
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "target": target,
            "builder": __version__,
            "models": dict(sorted(records.items())),
        }
        name = _generation_name(manifest)
        if is_intact(current, manifest):
            return Published(link, name, False, records)
        home = out / ".generations" / target
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(".new-*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
        try:
            folder = home / name
            if not is_intact(folder, manifest):  # else the one before is wanted again
                folder = _free_name(folder)
                _fill(draft / name, manifest, models, current, kept, fetch)
                check(draft / name)
                (draft / name).replace(folder)
            (draft / "link").symlink_to(folder.relative_to(out))
            (draft / "link").replace(link)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in home.iterdir():
            if old not in (folder, current):
                shutil.rmtree(old, ignore_errors=True)
    return Published(link, name, True, records)


def _current(link: Path) -> Path:
    """The generation that `link` points to; itself where there is none yet."""
    home = Path(".generations") / link.name
    if link.is_symlink() and link.readlink().parent == home:
        return link.parent / link.readlink()
    if link.is_symlink() or link.exists():
        raise OutputError(
            f"{link} exists and was not made by a build; move it away, or use another --out"
        )
    return link


def _free_name(folder: Path) -> Path:
    """`folder`, or the first of its successors that is not there."""
    names = (
        folder.with_name(f"{folder.name}.{n}" if n else folder.name) for n in itertools.count()
    )
    return next(name for name in names if not name.exists())


def is_intact(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every file of a manifest is there with its size; small ones with their content."""
    try:
        if (folder / "manifest.json").read_bytes() != _serialized(manifest):
            return False
    except OSError:
        return False
    return all(_files_intact(folder, record) for record in manifest["models"].values())


def _files_intact(folder: Path, record: Mapping[str, Any]) -> bool:
    for name, (sha256, size) in record["files"].items():
        path = folder / record["folder"] / name
        try:
            if path.stat().st_size != size:
                return False
            if size < _SMALL and digest.of_file(path) != sha256:
                return False
        except OSError:
            return False
    return True


def _still_intact(folder: Path, model: str, record: Mapping[str, Any]) -> bool:
    if _files_intact(folder, record):
        return True
    console.warn(f"{folder}: the earlier {model} is damaged and is left out; build it again")
    return False


def _still_compatible(
    earlier: Mapping[str, dict[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Earlier models less those of pipelines whose models are gone, or have other tensors now."""
    there = {name: record.get("interface") for name, record in {**earlier, **new}.items()}
    fitting = {}
    for name, record in earlier.items():
        unfit = [used for used, ends in record.get("uses", {}).items() if there.get(used) != ends]
        if not unfit:
            fitting[name] = record
        elif record["pipeline"] == name:
            console.warn(f"the earlier {name} does not fit {', '.join(unfit)} and is left out")
    return fitting


def _with_earlier(
    model: Model, current: Path, before: Mapping[str, Any] | None, count: int
) -> dict[str, Any]:
    """The record of a model with the versions of the current generation that stay beside it."""
    record = _record(model)
    # Versions of an ensemble would differ in nothing: they share its one config.
    if before is None or count == 1 or "pipeline" in record:
        return record
    if not _still_intact(current, model.name, before):
        return record
    found, unfit = versions.with_earlier(record, before, count)
    for version in unfit:
        what = f"has other tensors than {model.version} and is not kept"
        console.warn(f"{model.name} {version} {what}")
    return found


def _record(model: Model) -> dict[str, Any]:
    files: dict[str, Any] = {name: list(pair) for name, pair in sorted(model.files().items())}
    return {
        **model.record,
        "version": str(model.version),
        "triton_version": model.version.triton,
        "folder": model.folder,
        "digest": digest.of_json(files),
        "files": files,
    }


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a generation; {} where there is none, or it is not what was written."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    ours = (
        folder.name.partition(".")[0] == _generation_name(manifest) and manifest["format"] == FORMAT
    )
    return manifest if ours else {}


def _generation_name(manifest: Mapping[str, Any]) -> str:
    return digest.of_json(manifest)[:16]


def _serialized(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _fill(
    folder: Path,
    manifest: Mapping[str, Any],
    models: Sequence[Model],
    previous: Path,
    kept: Mapping[str, Any],
    fetch: Callable[[Entry, Path], None],
) -> None:
    folder.mkdir(parents=True)
    for model in models:
        home = folder / model.folder
        version = home / model.version_folder
        version.mkdir(parents=True)
        fetch(model.entry, version)
        for name, content in model.texts.items():
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_bytes(content)
        earlier = manifest["models"][model.name]["files"].keys() - model.files().keys()
        _copy(previous / model.folder, home, earlier)
    for record in kept.values():
        _copy(previous / record["folder"], folder / record["folder"], record["files"])
    (folder / "manifest.json").write_bytes(_serialized(manifest))


def _copy(source: Path, home: Path, files: Iterable[str]) -> None:
    for file in files:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, home / file)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One publication at a time into one folder; others wait."""
    out.mkdir(parents=True, exist_ok=True)
    lock = os.open(out / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _wrap_disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        what = f"{failure.strerror or failure}; {disk_fix(failure)}"
        raise OutputError(f"{out}: {what}, or use another --out") from failure
