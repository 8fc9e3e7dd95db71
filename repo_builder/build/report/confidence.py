"""What the report says of a confidence policy, from the facts of the step that found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repo_builder.base.artifact import Entry
from repo_builder.build.report.types import Confidence, OperatingPoint
from repo_builder.spec.types import Fallback


def of_entry(calibrated: Entry, fallback: Fallback, edge_ms: float | None) -> Confidence:
    """`calibrated` is of `calibrate-confidence`; `edge_ms` is a request at the edge, if known."""
    facts: Any = calibrated.facts
    params: Any = calibrated.recipe["params"]

    def operating(point: Mapping[str, Any]) -> OperatingPoint:
        rest = dict(point)
        added = rest.pop("added_ms")
        latency = None if edge_ms is None or added is None else edge_ms + added
        return OperatingPoint(latency_ms=latency, **rest)

    same = ("calibration", "tuned", "tested", "kept", "errors", "bound", "warning")
    return Confidence(
        policy=fallback.policy,
        output=fallback.output,
        runtime=params["runtime"],
        temperature=facts["policy"]["temperature"],
        max_error=fallback.max_error,
        confidence_level=fallback.confidence_level,
        cloud=fallback.cloud,
        chosen=operating(facts["chosen"]) if facts["chosen"] else None,
        frontier=tuple(map(operating, facts["frontier"])),
        **{name: facts[name] for name in same},
    )
