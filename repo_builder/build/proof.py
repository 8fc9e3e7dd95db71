"""What `verify` found of one model@target: for its row of the report, and for its gate."""

from __future__ import annotations

from typing import Any

from repo_builder.base.artifact import Entry
from repo_builder.build.report.types import Comparison, Difference
from repo_builder.spec.types import Spec

EMULATED = "emulate-fp16"

_FP16_LARGEST = 65504


def differences(verified: Entry) -> dict[str, Difference]:
    """Output -> how far it lies from the source's."""
    facts: Any = verified.facts
    shown = Difference.__dataclass_fields__
    return {
        one["name"]: Difference(**{key: value for key, value in one.items() if key in shown})
        for one in facts["outputs"]
    }


def comparison(verified: Entry, emulated: Entry | None, spec: Spec) -> Comparison:
    """What was compared, and with which limits."""
    facts: Any = verified.facts
    ranges: Any = emulated.facts if emulated else None
    widened = spec.gates.max_difference
    return Comparison(
        rows=facts["rows"],
        origin=facts["origin"],
        arithmetic=facts["arithmetic"],
        limits=facts["limits"],
        reason=widened.reason if widened else "",
        headroom=ranges and ranges["headroom"],
    )


def failures(verified: Entry, emulated: Entry | None) -> list[str]:
    """One line for all that is beyond the limits; [] where nothing is."""
    facts: Any = verified.facts
    if not facts["broken"]:
        return []
    said = [*facts["broken"]]
    if facts["first"]:
        said.append(f"it begins at {facts['first']}")
    if over := overflow(emulated):
        said.append(over)
    return ["; ".join(said)]


def overflow(emulated: Entry | None) -> str:
    """The nodes whose outputs fp16 cannot hold, in words; "" where there are none."""
    if emulated is None:
        return ""
    facts: Any = emulated.facts
    if not facts["count"]:
        return ""
    nodes = ", ".join(f"{peak['node']} {peak['value']:.2g}" for peak in facts["overflowing"])
    more = facts["count"] - len(facts["overflowing"])
    others = f" and {more} more" if more else ""
    return f"fp16 ends at {_FP16_LARGEST}, but on these rows reach: {nodes}{others}"
