"""What it cost and saved to bring a model near the version that devices have: for the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from repo_builder.base.artifact import Entry
from repo_builder.build.report.types import Score


def notes(entries: Mapping[str, Entry | None]) -> list[str]:
    """A sentence on the delta with and without it, labels and score; [] where none was asked."""
    entry = entries.get("near")
    if entry is None:
        return []
    facts: Any = entry.facts
    if facts["step"] is None:
        return [f"not brought near the base: {facts['why_not']}"]
    said = (
        f"brought near the base: the delta of its floats takes {facts['with_it'] / 1e6:.3g} MB"
        f" instead of {facts['without'] / 1e6:.3g}; {facts['agreement']:.2%} of labels stay"
    )
    if facts["before"] is not None:
        said += f", the score goes from {facts['before']:.4g} to {facts['after']:.4g}"
    return [said]


def from_source(score: Score, entries: Mapping[str, Entry | None]) -> Score:
    """`score`, whose drop is from the rounded model, with the drop from the source in all."""
    entry = entries.get("near")
    if entry is None:
        return score
    facts: Any = entry.facts
    if facts["step"] is None:
        return score
    drop = facts["drop"]
    interval = score.interval and tuple(end + drop for end in score.interval)
    return replace(score, source=facts["before"], drop=score.drop + drop, interval=interval)
