"""What a search may try for one model on one target. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from repo_builder.spec.pruning import Pruning
from repo_builder.spec.types import (
    AUTO_ERROR,
    Optimize,
    Precision,
    Quantization,
    Spec,
)
from repo_builder.targets import Target, support
from repo_builder.targets.support.quantization import REPAIRS, Combination
from repo_builder.targets.types import CalibrationMethod, WeightType


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


_RANGES: tuple[tuple[CalibrationMethod, float], ...] = (
    ("minmax", 99.99),
    ("percentile", 99.99),
    ("percentile", 99.9),
    ("mse", 99.99),
    ("entropy", 99.99),
)
"""Ways to choose the ranges of activations, the cheapest first."""

_MIXED = ((AUTO_ERROR, 0.4), (AUTO_ERROR / 5, 0.5))
"""Errors up to which the worst layers stay in floating point, and what size that may give."""

_EXPECTED: dict[WeightType, float] = {"int4": 0.2, "int8": 0.3}
"""The size of weights against fp32's, with what stays as it is."""


def of(spec: Spec, target: Target) -> tuple[Candidate, ...]:
    """All that may be tried: what the target truly computes, by its table of support.

    Where the spec asks for pruning, each with the whole share, with half of it, and without.
    """
    pruning = spec.optimize.prune
    if pruning is None:
        return tuple(_dense(spec, target))
    dense = _dense(replace(spec, optimize=replace(spec.optimize, prune=None)), target)
    shares = (pruning.share, pruning.share / 2)
    return (*(_pruned(one, replace(pruning, share=s)) for s in shares for one in dense), *dense)


def _pruned(one: Candidate, pruning: Pruning) -> Candidate:
    """A candidate of the pruned net: weights fall with the square of the channels."""
    said = f"pruned {pruning.share:g}"
    return Candidate(
        f"{one.name}, {said}",
        f"{one.kind}, {said}",
        one.expected * (1 - pruning.share) ** 2,
        replace(one.optimize, prune=pruning),
    )


def _dense(spec: Spec, target: Target) -> list[Candidate]:
    found = []
    if "int8" in target.precisions:
        for row in support.combinations(target):
            found += _quantized(spec, row, symmetric=target.int8 == "s8s8")
        if support.of(target.runtime).mixed:
            for error, expected in _MIXED:
                name = f"int8 mixed {error:g}"
                found.append(_candidate(spec, name, name, expected, Quantization(max_error=error)))
    if "fp16" in target.precisions:
        found.append(_candidate(spec, "fp16", "fp16", 0.55))
    if "fp32" in target.precisions:
        found.append(_candidate(spec, "fp32", "fp32", 1.0))
    return found


def _quantized(spec: Spec, row: Combination, *, symmetric: bool) -> list[Candidate]:
    """The ways to quantize with one combination of weights and activations, the cheapest first."""
    plain = Quantization(
        weights=row.weights,
        activations=row.activations,
        symmetric=row.symmetric,
        repair=row.repair,
    )
    if plain.stored and symmetric:
        plain = replace(plain, symmetric=True)
    expected, kind = _EXPECTED[row.weights], plain.name
    if not plain.stored:
        return [_candidate(spec, kind, kind, expected, plain)]
    methods = set(row.having(*(method for method, _ in _RANGES)))
    found = []
    for method, percentile in _RANGES:
        if method in methods:
            title = f"{kind} {method}" + (f" {percentile:g}" if method == "percentile" else "")
            how = replace(plain, method=method, percentile=percentile)
            found.append(_candidate(spec, title, kind, expected, how))
    repairs = tuple(repair for repair in REPAIRS if repair not in row.lacks)
    if set(repairs) > set(row.repair):
        how = replace(plain, method="mse" if "mse" in methods else "minmax", repair=repairs)
        found.append(_candidate(spec, f"{kind} all repairs", kind, expected, how))
    return found


def _candidate(
    spec: Spec, name: str, kind: str, expected: float, quantization: Quantization | None = None
) -> Candidate:
    how = replace(quantization or Quantization(), exclude=spec.optimize.quantization.exclude)
    precision: Precision = "int8" if quantization else "fp16" if kind == "fp16" else "fp32"
    optimize = replace(spec.optimize, precision=precision, quantization=how, auto=None)
    return Candidate(name, kind, expected, optimize)
