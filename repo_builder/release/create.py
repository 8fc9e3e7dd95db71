"""From what a build published to releases: one for each model, with every target of it.

Reads report.json and the manifests of the folder that `repo-builder build` wrote, nothing else. A
release has the version of its spec, which stands in the model's config.pbtxt too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from repo_builder.base import console
from repo_builder.base.errors import GateFailed, OutputError, Problem, UsageError, did_you_mean
from repo_builder.release import types
from repo_builder.release.diff import changelog, interface_changes
from repo_builder.release.registry import Registry
from repo_builder.release.types import Artifact, Release


def create(
    build: Path,
    registry: Registry,
    channel: str,
    only: Sequence[str] = (),
    epoch: int | None = None,
    notes: str | None = None,
) -> dict[str, bool]:
    """Release the models of a build and offer them in `channel`; says for each whether it is new.

    `epoch` is the security epoch; None: that of the release before. `notes` is the changelog; None:
    made from the differences. GateFailed where a model was not good on a target, UsageError where a
    version does not fit what changed; then nothing is released.
    """
    report = _json(build / "report.json")
    try:
        made = _releases(build, report, only)
    except (LookupError, TypeError, AttributeError):
        what = "report.json or a manifest is not as this version writes it"
        raise OutputError(f"{build}: {what}; build again") from None
    new, problems = [], []
    for release, folders in made:
        before = _before(registry, release)
        if before:
            problems += _too_small_a_step(before, release)
        new.append((_completed(release, before, epoch, notes), folders))
    if problems:
        raise UsageError("versions do not say what changed", problems)
    return registry.publish(new, channel)


def _releases(
    build: Path, report: Mapping[str, Any], only: Sequence[str]
) -> list[tuple[Release, dict[str, Path]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        rows.setdefault(row["name"], []).append(row)
    for name in only:
        if name not in rows:
            raise UsageError(f"{build}: built no {name}; {did_you_mean(name, rows)}")
    manifests = {
        target: _json(build / target / "manifest.json")["models"]
        for target in sorted({r["target"] for row in rows.values() for r in row if r["folder"]})
    }
    bad = [
        Problem(row["reason"] or row["status"], field=row["id"])
        for name, of_model in rows.items()
        for row in of_model
        if (not only or name in only) and row["status"] not in ("built", "cached")
    ]
    if bad:
        raise GateFailed("not good enough to be released; release others with --only", bad)
    found = []
    for name, of_model in sorted(rows.items()):
        if only and name not in only:
            continue
        if any(row["precision"] == "pipeline" for row in of_model):
            if only:
                raise UsageError(f"{name}: is a pipeline; only its models can be released")
            console.warn(f"{name} is a pipeline and is not released; its models are")
            continue
        found.append(_release(build, name, of_model, manifests, report["provenance"] or {}))
    if not found:
        raise UsageError(f"{build}: has nothing to release")
    return found


def _release(
    build: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    manifests: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> tuple[Release, dict[str, Path]]:
    artifacts, folders, versions = {}, {}, {}
    for row in rows:
        target = row["target"]
        record = manifests.get(target, {}).get(name)
        if record is None or record["version"] != row["version"]:
            what = f"does not hold {name} {row['version']}"
            raise OutputError(f"{build / target}: {what}; build again")
        artifacts[target] = _artifact(row, record)
        folders[target] = build / target / record["folder"]
        versions[target] = record["version"]
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{version} for {target}" for target, version in versions.items())
        raise UsageError(f"{name}: was built as {told}; build all targets again")
    release = Release(
        name=types.checked_name(name, "model"),
        version=next(iter(versions.values())),
        epoch=0,
        changelog="",
        builder=str(provenance.get("version", "")),
        commit=str(provenance.get("commit", "")),
        built=str(provenance.get("at", "")),
        targets=artifacts,
    )
    return release, folders


def _artifact(row: Mapping[str, Any], record: Mapping[str, Any]) -> Artifact:
    # The files of the newest version only: earlier ones that Triton serves beside it are releases
    # of their own.
    number = str(record["triton_version"])
    folder = str(record["version"]) if record["folder"].startswith("bundles/") else number
    files = {
        path: (sha256, size)
        for path, (sha256, size) in record["files"].items()
        if not _other_version(path, folder)
    }
    labels = {p: s for p, (s, _) in files.items() if "/" not in p and p.endswith(".txt")}
    return Artifact(
        folder=record["folder"],
        files=files,
        precision=row["precision"],
        level=row["level"],
        level_reason=row["level_reason"],
        interface=record["interface"],
        labels=labels,
        score=row["score"],
        latency=row["latency"],
        energy=row["energy"],
        confidence=record["confidence"],
        tools=record["tools"],
        provenance=record["provenance"],
    )


def _other_version(path: str, folder: str) -> bool:
    first, slash, _ = path.partition("/")
    return bool(slash) and first != folder and first.replace(".", "").isdigit()


def _before(registry: Registry, release: Release) -> Release | None:
    """The newest release of the model with a smaller version, yanked ones left out."""
    own = types.numbers(release.version)
    for version in reversed(registry.versions(release.name)):
        text = f"{release.name}:{version}"
        if types.numbers(version) < own and registry.yanked(text) is None:
            return registry.release(text)
    return None


def _too_small_a_step(before: Release, release: Release) -> list[Problem]:
    """Why the version must be a major one and is not."""
    if types.numbers(release.version)[0] > types.numbers(before.version)[0]:
        return []
    major = f"write version: {types.numbers(before.version)[0] + 1}.0.0 in its spec and build"
    changed = interface_changes(before, release)
    return [Problem(f"{what} since {before.version}", major, field=release.id) for what in changed]


def _completed(
    release: Release, before: Release | None, epoch: int | None, notes: str | None
) -> Release:
    floor = before.epoch if before else 0
    if epoch is not None and epoch < floor:
        raise UsageError(f"{release.id}: epoch {epoch} is below the {floor} of the one before")
    text = changelog(before, release) if notes is None else notes
    return replace(release, epoch=floor if epoch is None else epoch, changelog=text)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as failure:
        what = f"{path}: {failure.strerror}; name a folder that repo-builder build wrote"
        raise OutputError(what) from None
    except ValueError:
        raise OutputError(f"{path}: is damaged; build again") from None
