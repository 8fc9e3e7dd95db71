"""What a search may try for one model on one target. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from repo_builder.spec.types import Optimize, Precision, Quantization, Spec
from repo_builder.targets import Target


@dataclass(frozen=True)
class Candidate:
    """One way to build a model.

    Candidates of one `kind` have the same size and speed, and differ in what they lose. `expected`
    is their size and time against fp32's, before anything was measured.
    """

    name: str
    kind: str
    expected: float
    optimize: Optimize


_EXPECTED: dict[Precision, float] = {"int8": 0.3, "fp16": 0.5, "fp32": 1.0}

_INT8: tuple[tuple[str, Quantization], ...] = (
    ("minmax", Quantization("minmax")),
    ("percentile 99.99", Quantization("percentile", 99.99)),
    ("percentile 99.9", Quantization("percentile", 99.9)),
    ("entropy", Quantization("entropy")),
)
"""Ways to choose ranges, the cheapest first."""


def of(spec: Spec, target: Target) -> tuple[Candidate, ...]:
    """All that may be tried, the most promising first."""
    found = []
    for precision in ("int8", "fp16", "fp32"):
        if precision not in target.precisions:
            continue
        ways = _INT8 if precision == "int8" else (("", Quantization()),)
        for name, quantization in ways:
            chosen = replace(quantization, exclude=spec.optimize.quantization.exclude)
            optimize = replace(spec.optimize, precision=precision, quantization=chosen, auto=None)
            title = f"{precision} {name}".strip()
            found.append(Candidate(title, precision, _EXPECTED[precision], optimize))
    return tuple(found)
