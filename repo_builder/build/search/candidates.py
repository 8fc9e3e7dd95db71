"""What a search may try for one model on one target. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from repo_builder.spec.types import (
    AUTO_ERROR,
    WHOLE_INT8,
    Optimize,
    Precision,
    Quantization,
    Spec,
)
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


_RANGES: tuple[tuple[str, Quantization], ...] = (
    ("minmax", Quantization("minmax")),
    ("percentile 99.99", Quantization("percentile", 99.99)),
    ("percentile 99.9", Quantization("percentile", 99.9)),
    ("entropy", Quantization("entropy")),
)
"""Ways to choose the ranges of int8, the cheapest first."""

_MIXED = ((AUTO_ERROR, 0.4), (AUTO_ERROR / 5, 0.5))
"""Errors up to which the worst layers stay in floating point, and what size that may give."""


def of(spec: Spec, target: Target) -> tuple[Candidate, ...]:
    """All that may be tried."""
    found = []
    if "int8" in target.precisions:
        found += [_candidate(spec, f"int8 {way}", "int8", 0.3, how) for way, how in _RANGES]
        if target.runtime not in WHOLE_INT8:
            for error, expected in _MIXED:
                name = f"int8 mixed {error:g}"
                how = Quantization("minmax", max_error=error)
                found.append(_candidate(spec, name, name, expected, how))
    if "fp16" in target.precisions:
        found.append(_candidate(spec, "fp16", "fp16", 0.55))
    if "fp32" in target.precisions:
        found.append(_candidate(spec, "fp32", "fp32", 1.0))
    return tuple(found)


def _candidate(
    spec: Spec, name: str, kind: str, expected: float, quantization: Quantization | None = None
) -> Candidate:
    how = replace(quantization or Quantization(), exclude=spec.optimize.quantization.exclude)
    precision: Precision = "int8" if quantization else "fp16" if kind == "fp16" else "fp32"
    optimize = replace(spec.optimize, precision=precision, quantization=how, auto=None)
    return Candidate(name, kind, expected, optimize)
