"""What a user of a model notices between two releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repo_builder.release.types import Artifact, Release


@dataclass(frozen=True)
class Change:
    """One thing that differs on one target; "" or None where a side does not have it."""

    target: str
    what: str
    before: str | float | None
    after: str | float | None

    def __str__(self) -> str:
        return f"{self.target}: {self.what} {_told(self.before)} -> {_told(self.after)}"


def diff(before: Release, after: Release) -> list[Change]:
    """Interface, labels, precision, score, size, speed (ms), threshold, level, by target."""
    found = []
    for target in sorted({*before.targets, *after.targets}):
        old, new = before.targets.get(target), after.targets.get(target)
        if old is None or new is None:
            found.append(Change(target, "target", "" if old is None else "there", _there(new)))
            continue
        left, right = _figures(old), _figures(new)
        found += [
            Change(target, what, left.get(what), right.get(what))
            for what in {**left, **right}
            if left.get(what) != right.get(what)
        ]
    return found


def interface_changes(before: Release, after: Release) -> list[str]:
    """What breaks users of `before`: other tensors or labels, or a target that is gone."""
    breaking = ("interface", "labels")
    return [
        f"{change.target} is gone"
        if change.what == "target"
        else f"the {change.what} on {change.target} changed"
        for change in diff(before, after)
        if change.what in breaking or (change.what == "target" and not change.after)
    ]


def changelog(before: Release | None, after: Release) -> str:
    """A changelog from the differences."""
    if before is None:
        return "The first release."
    lines = [f"- {change}" for change in diff(before, after)]
    return "\n".join([f"Since {before.version}:", *lines] if lines else [f"As {before.version}."])


def _there(artifact: Artifact | None) -> str:
    return "" if artifact is None else "there"


def _figures(artifact: Artifact) -> dict[str, str | float | None]:
    labels = "; ".join(f"{path} {sha256[:12]}" for path, sha256 in sorted(artifact.labels.items()))
    score = artifact.score or {}
    return {
        "interface": artifact.interface[:12],
        "labels": labels,
        "precision": artifact.precision,
        str(score.get("metric", "score")): score.get("built"),
        "bytes": artifact.size,
        "p50 ms": _of(artifact.latency, "p50_ms"),
        "threshold": _of(artifact.confidence, "threshold"),
        "level": artifact.level,
    }


def _of(figures: Mapping[str, Any] | None, name: str) -> float | None:
    return None if figures is None else figures.get(name)


def _told(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value in (None, "") else str(value)
