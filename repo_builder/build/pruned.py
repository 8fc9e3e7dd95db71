"""What came of pruning a net: for the row, the manifest, and the gate on its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from repo_builder.base.artifact import Entry
from repo_builder.base.digest import Json
from repo_builder.build import gates
from repo_builder.build.report.types import Latency

Entries: TypeAlias = Mapping[str, Entry | None]
"""Steps of a variant by name."""

_CHOSEN = {"fine-tuned": "the fine-tuned one goes on", "from scratch": "its twin goes on"}


def record(entries: Entries) -> Json:
    """What is gone, and the scores of the parent, the pruned net and its twin; None where nothing
    was pruned.
    """
    prune, choose = entries.get("prune"), entries.get("choose")
    if prune is None or choose is None:
        return None
    facts: Any = prune.facts
    return {
        "gone": {name: _gone(facts[name]) for name in ("channels", "macs", "parameters")},
        "layers": facts["layers"],
        "scores": choose.facts,
    }


def notes(entries: Entries) -> list[str]:
    """A sentence on what is gone and what it cost; [] where nothing was pruned."""
    prune, choose, profile = (entries.get(step) for step in ("prune", "choose", "profile"))
    if prune is None or choose is None:
        return []
    cut: Any = prune.facts
    scores: Any = choose.facts
    gone = ", ".join(
        f"{_gone(cut[name]):.0%} of the {called}"
        for name, called in (
            ("channels", "channels"),
            ("macs", "multiplications"),
            ("parameters", "parameters"),
        )
    )
    said = (
        f"pruned, {gone} are gone; on {scores['rows']} validation rows its parent scores "
        f"{scores['dense']:.4g}, fine-tuned it {scores['fine_tuned']:.4g}, and a twin of its shape "
        f"from scratch {scores['from_scratch']:.4g}: {_CHOSEN[scores['chosen']]}"
    )
    facts: Any = profile.facts if profile else {}
    if parent := facts.get("parent"):
        said += f"; {parent['faster']:.2g}x as fast as its parent"
    return [said]


def failures(entries: Entries, latency: Latency | None) -> list[str]:
    """One line where the pruned model is slower than its parent; [] where it is not."""
    profile = entries.get("profile")
    facts: Any = profile.facts if profile else {}
    if latency is None or not (parent := facts.get("parent")):
        return []
    return gates.slower_than_parent(latency.p50_ms, parent, latency.doubt)


def _gone(counts: Any) -> float:
    """The share (0..1) that is gone of what there was, of (before, after)."""
    before, after = counts
    return round(1 - float(after / before), 4)
