"""Publishes a Triton repository in one atomic swap, and keeps what was good before.

    OUT/<target>  ->  .generations/<target>/<digest>/
                          manifest.json
                          models/<name>/config.pbtxt, labels..., <version>/...

`OUT/<target>` is a symbolic link to the current generation, so a reader sees the old repository or
the new one, whole; the previous generation stays for those who still read it, and for rollback.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder import __version__, digest
from repo_builder.artifact import Entry
from repo_builder.digest import Json
from repo_builder.errors import OutputError
from repo_builder.spec.types import Version

FORMAT = 1
_SMALL = 65_536


@dataclass(frozen=True)
class Model:
    """A built model, ready to be published.

    `texts` are the files beside the version folder (config.pbtxt, labels); `entry` holds the files
    of the version folder; `record` is what the manifest says of the model besides its files.
    """

    name: str
    version: Version
    texts: Mapping[str, bytes]
    entry: Entry
    record: Mapping[str, Json]

    def files(self) -> dict[str, tuple[str, int]]:
        """Path below `models/<name>/` -> (sha256, size)."""
        files = {name: (digest.of_bytes(text), len(text)) for name, text in self.texts.items()}
        for name, blob in self.entry.artifact.files.items():
            files[f"{self.version.triton}/{name}"] = (blob.sha256, blob.size)
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
) -> Published:
    """Publish `models` as `out/target`; earlier models for which `keep(name)` holds stay in it.

    Raises OutputError where `out` cannot be written or `out/target` is not ours.
    """
    link = out / target
    with _explained(out), _locked(out):
        if link.exists() and not link.is_symlink():
            raise OutputError(
                f"{link} exists and was not made by a build; move it away, or use another --out"
            )
        before = _manifest(link)
        new = {model.name for model in models}
        kept = {n: m for n, m in before.get("models", {}).items() if n not in new and keep(n)}
        records = {model.name: _record(model) for model in models} | kept
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "target": target,
            "builder": __version__,
            "models": dict(sorted(records.items())),
        }
        name = digest.of_json(manifest)[:16]
        home = out / ".generations" / target
        folder = home / name
        if link.is_symlink() and link.resolve() == folder.resolve() and whole(folder, manifest):
            return Published(link, name, False, records)
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(".new-*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
        try:
            _fill(draft, manifest, models, link.resolve(), kept, fetch)
            draft.chmod(0o755)
            if folder.exists():  # a generation that is damaged, or that an older link still names
                shutil.rmtree(folder)
            draft.replace(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        previous = link.resolve().name if link.is_symlink() else ""
        _point(link, Path(".generations") / target / name)
        for old in home.iterdir():
            if old.name not in (name, previous):
                shutil.rmtree(old, ignore_errors=True)
    return Published(link, name, True, records)


def whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every file of a manifest is there with its size; small ones with their content."""
    for model, record in manifest["models"].items():
        for name, (sha256, size) in record["files"].items():
            path = folder / "models" / model / name
            try:
                if path.stat().st_size != size:
                    return False
                if size < _SMALL and digest.of_file(path) != sha256:
                    return False
            except OSError:
                return False
    return (folder / "manifest.json").is_file()


def _record(model: Model) -> dict[str, Any]:
    files: dict[str, Any] = {name: list(pair) for name, pair in sorted(model.files().items())}
    return {
        **model.record,
        "version": str(model.version),
        "triton_version": model.version.triton,
        "digest": digest.of_json(files),
        "files": files,
    }


def _manifest(link: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((link / "manifest.json").read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        return {}  # damaged: nothing of it can be kept
    if manifest.get("format") != FORMAT:
        return {}
    return manifest


def _fill(
    draft: Path,
    manifest: Mapping[str, Any],
    models: Sequence[Model],
    previous: Path,
    kept: Collection[str],
    fetch: Callable[[Entry, Path], None],
) -> None:
    for model in models:
        home = draft / "models" / model.name
        version = home / str(model.version.triton)
        version.mkdir(parents=True)
        fetch(model.entry, version)
        for name, content in model.texts.items():
            (home / name).write_bytes(content)
    for name in kept:
        shutil.copytree(previous / "models" / name, draft / "models" / name)
    (draft / "models").mkdir(exist_ok=True)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    (draft / "manifest.json").write_text(text + "\n", encoding="utf-8")


def _point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing an older one in one step."""
    with tempfile.TemporaryDirectory(prefix=".link-", dir=link.parent) as folder:
        draft = Path(folder) / link.name
        draft.symlink_to(target)
        draft.replace(link)


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
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        fix = "check the disk"
        if failure.errno == errno.ENOSPC:
            fix = "free some space"
        elif failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "make it writable"
        elif failure.errno in (errno.EEXIST, errno.ENOTDIR):
            fix = "move it away"
        what = failure.strerror or str(failure)
        raise OutputError(f"{out}: {what}; {fix}, or use another --out") from failure
