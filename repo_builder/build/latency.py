"""A latency as the report has it, from the facts of the step that measured it."""

from __future__ import annotations

from typing import Any

from repo_builder.base import machine
from repo_builder.build.report.types import Latency


def of(facts: Any, timing: Any) -> Latency:
    """`facts` have the `conditions` and when it was (`at`), `timing` the figures and the spread."""
    conditions = facts["conditions"]
    load, throttled, spread = conditions["load"], conditions["throttled"], timing["spread"]
    return Latency(
        timing["p50_ms"],
        timing["p95_ms"],
        cpu=conditions["cpu"],
        cores=conditions["cores"],
        at=facts["at"],
        load=load,
        throttled=throttled,
        spread=spread,
        doubt=machine.doubt(load, throttled, spread),
    )
