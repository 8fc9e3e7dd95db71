"""What of a build can be measured on this machine: its published models, and fp32 beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from repo_builder.base.errors import OutputError, Problem, UsageError
from repo_builder.plan.recipes import FP32
from repo_builder.run.store import CorruptEntry, Store
from repo_builder.tune.measure.types import Subject

_RUNTIMES = {"compile-onnxruntime": "onnxruntime", "compile-openvino": "openvino"}
"""The step that made what is served -> the runtime of this machine that runs it."""

_FOLDERS_FIX = "give the folder that `repo-builder build` wrote, such as build"


@dataclass(frozen=True)
class Found:
    """`subjects` in the order of the table, and what was `left_out`, each with its reason."""

    subjects: tuple[Subject, ...]
    left_out: tuple[str, ...]


def of(
    build: Path,
    store: Store,
    work: Path,
    *,
    only: Sequence[str] = (),
    threads: int = 0,
    callers: Sequence[int] = (),
) -> Found:
    """The subjects of a build's folder, or of one target's in it.

    Models that are not published under their own names lie in the store; what is needed of it is
    copied into the folder `work`. `only` are patterns of `model@target`. With `callers`, what is
    published is also asked through Triton by so many at once. OutputError where `build` is none, or
    nothing of it runs here.
    """
    subjects: list[Subject] = []
    left_out: list[str] = []
    folders = _repositories(build)
    ids = []
    for folder, manifest in folders:
        target = manifest["target"]
        for name, record in sorted(manifest["models"].items()):
            if "targets" in record:  # shared by several targets, which have it too
                continue
            ids.append(f"{name}@{target}")
            if only and not any(fnmatch(ids[-1], pattern) for pattern in only):
                continue
            if "pipeline" in record:
                if record["pipeline"] == name:
                    left_out.append(f"{ids[-1]}: a pipeline; `repo-builder trace` shows its stages")
                continue
            found = list(_of_model(folder, target, name, record, store, work))
            here = [one for one in found if isinstance(one, Subject)]
            subjects += here
            subjects += [
                replace(here[0], runtime=f"triton {here[0].runtime}", folder=folder, callers=count)
                for count in (callers if here else ())
            ]
            left_out += [one for one in found if isinstance(one, str)]
    if only and not subjects and not left_out:
        raise UsageError(f"--only {', '.join(only)} fits none of: {', '.join(ids)}")
    if not subjects:
        reasons = [Problem(reason) for reason in left_out]
        raise OutputError(f"{build}: no model in it runs on this machine", reasons)
    order = {name: number for number, name in enumerate(dict.fromkeys(s.model for s in subjects))}
    subjects.sort(key=lambda one: order[one.model])
    return Found(tuple(replace(one, threads=threads) for one in subjects), tuple(left_out))


def _repositories(build: Path) -> list[tuple[Path, Any]]:
    """The published repositories of a build, with their manifests."""
    places = [build] if (build / "manifest.json").is_file() else []
    if not places and build.is_dir():
        places = sorted(path.parent for path in build.glob("*/manifest.json"))
    if not places:
        what = "has no published models in it" if build.is_dir() else "no such folder"
        raise OutputError(f"{build}: {what}; {_FOLDERS_FIX}")
    return [(place, _manifest(place / "manifest.json")) for place in places]


def _manifest(file: Path) -> Any:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(read["target"], str) and isinstance(read["models"], dict):
            return read
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise OutputError(f"{file}: is no manifest of a build; {_FOLDERS_FIX}")


def _of_model(
    folder: Path, target: str, name: str, record: Mapping[str, Any], store: Store, work: Path
) -> Iterator[Subject | str]:
    """The published model and its fp32; or why one of them is left out."""
    steps = record["provenance"]["steps"]
    made = next((step for step in _RUNTIMES if step in steps), None)
    level = record["verification"]
    if made is None or level["level"] != "executed":
        yield f"{name}@{target}: {level['reason']}"
        return
    inputs = _fetched(store, steps.get("reference"), work)
    rows = inputs / "inputs.npz" if inputs else None
    runtime = _RUNTIMES[made]
    place = folder / record["folder"] / str(record["triton_version"])
    digest = record["digest"]
    yield Subject(name, target, record["precision"], runtime, place, rows, digest)
    if FP32 not in steps:
        return
    fp32 = _fetched(store, steps[FP32], work)
    if fp32 is None:
        yield (
            f"{name}@{target} in fp32: the store {store.root} does not have it; build again, or "
            "name the store that it was built with (--store)"
        )
        return
    yield Subject(name, target, "fp32", runtime, fp32, rows, steps[FP32])


def _fetched(store: Store, key: str | None, work: Path) -> Path | None:
    """The files of an entry of the store, in a folder of their own; None where it has none."""
    entry = store.get(key) if key else None
    if key is None or entry is None:
        return None
    folder = work / key
    if not folder.is_dir():
        folder.mkdir(parents=True)
        try:
            store.fetch(entry, folder)
        except CorruptEntry:
            return None
    return folder
