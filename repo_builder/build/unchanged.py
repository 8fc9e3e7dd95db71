"""Whether a build has nothing to do, seen without reading a spec.

A build that found nothing to do remembers all that it looked at: spec files and their folders, the
files that specs name, target files and templates, what it had from the store, what is published,
and the report; with what the tools are. While none of that changes, neither does its answer, so the
next build gives the same report without parsing, planning or checking anything. What is remembered
is only ever a reason to do nothing: in doubt the build takes its whole path.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import repo_builder
from repo_builder.base import digest, resources
from repo_builder.base.digest import Json
from repo_builder.build.report import Report, read
from repo_builder.build.request import Request
from repo_builder.run.store import Store

if TYPE_CHECKING:
    from repo_builder.plan import Plan

_FORMAT = 1
_MOST_FILES = 20_000
"""Looking at more files than this is no shorter than the whole path."""

_GRAIN_S = 2.0
"""A file system's clock may be this coarse."""


def recall(request: Request, store: Store) -> Report | None:
    """The report of the last such build, where it had nothing to do and nothing changed since."""
    known = store.read_json(_path(request, store))
    if not isinstance(known, dict) or known.get("format") != _FORMAT:
        return None
    if known["tools"] != _tools() or any(_look(Path(p)) != s for p, s in known["seen"].items()):
        return None
    report = read(request.out)
    if report is None:
        return None
    rows = tuple(row for row in report.rows if row.id in set(known["ids"]))
    published = {
        name: {**report.repositories[name], "changed": False} for name in known["repositories"]
    }
    return replace(report, rows=rows, repositories=published)


def remember(
    request: Request, store: Store, plan: Plan, wanted: Iterable[str], report: Report, begun: float
) -> None:
    """Remember a build, where it had nothing to do.

    `begun` is the time of the clock when it started to read: what changed since, or shortly before,
    may have been read as it was before, so then nothing is remembered.
    """
    nothing = all(row.status == "cached" for row in report.rows) and not any(
        repository["changed"] for repository in report.repositories.values()
    )
    if not nothing or request.scheduler:
        return
    inputs = {*_inputs(request, plan)}
    paths = {*inputs, *_stored(store, wanted), *_outputs(request, report)}
    if len(paths) > _MOST_FILES or any(_changed_since(path, begun - _GRAIN_S) for path in inputs):
        return
    seen = {str(path): _look(path) for path in sorted(paths)}
    record: dict[str, Json] = {
        "format": _FORMAT,
        "tools": _tools(),
        "seen": seen,
        "ids": [row.id for row in report.rows],
        "repositories": [*report.repositories],
    }
    store.write_json(_path(request, store), record)


def _inputs(request: Request, plan: Plan) -> Iterator[Path]:
    """What the user and the package hold: specs, what they name, targets, templates."""
    from repo_builder.plan import SourceFiles
    from repo_builder.spec.load import DEFAULTS
    from repo_builder.spec.tuning import TUNING
    from repo_builder.spec.types import TorchSource
    from repo_builder.targets.loader import CATALOG

    yield from request.specs
    for variant in plan.all_variants:
        yield variant.spec.file
        yield variant.spec.file.parent / DEFAULTS
        yield variant.spec.file.parent / TUNING
    for variant in plan.variants:
        yield from variant.spec.serving.labels.values()
        if isinstance(variant.spec.source, TorchSource):
            yield variant.spec.source.file.parent  # a new file may be what an import means
    for node in plan.nodes.values():
        for value in node.inputs.values():
            if isinstance(value, SourceFiles):
                yield from (path for path, _ in value.files.values())
    yield from Path(repo_builder.__file__).parent.rglob("*.py")
    for folder in (CATALOG, request.targets_dir, resources.folder("templates")):
        if folder is not None:
            yield folder
            yield from (path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def _stored(store: Store, wanted: Iterable[str]) -> Iterator[Path]:
    """The files of the store that the build had its results from."""
    for key in wanted:
        yield from store.files(key)


def _outputs(request: Request, report: Report) -> Iterator[Path]:
    """What is published, and the report."""
    yield from (request.out / "report.json", request.out / "report.html")
    for name in report.repositories:
        link = request.out / name
        yield link
        yield from link.resolve().rglob("*")


def _look(path: Path) -> Any:
    """What tells whether a path is as it was: a link's target, a folder's names, a file's stamp."""
    try:
        if path.is_symlink():
            return [str(path.readlink()), *([] if path.is_dir() else digest.stamp(path))]
        if path.is_dir():
            return sorted(inside.name for inside in path.iterdir())
        return digest.stamp(path)
    except OSError:
        return None


def _changed_since(path: Path, seconds: float) -> bool:
    try:
        return path.is_file() and path.stat().st_ctime > seconds
    except OSError:
        return True


def _tools() -> list[Any]:
    """What the tools are: this package, Python, the cores, and every folder of packages.

    Installing or removing a package changes the time of its folder.
    """
    folders = [path for path in map(Path, sys.path) if path.name.endswith("-packages")]
    stamps = [[str(path), path.stat().st_mtime_ns] for path in folders if path.is_dir()]
    return [
        repo_builder.__version__,
        sys.version,
        len(os.sched_getaffinity(0)),
        stamps,
    ]


def _path(request: Request, store: Store) -> Path:
    asked = json.loads(json.dumps(asdict(request), default=str, sort_keys=True))
    return store.root / "unchanged" / f"{digest.of_json([asked, str(Path.cwd())])[:32]}.json"
