"""How far a built model may lie from its source: by the arithmetic that it computes in.

docs/proof.md gives the reason for every figure, and what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from repo_builder.steps._difference import Difference

Arithmetic = Literal["fp32", "fp16", "bf16", "int8"]

LOST = 0.9
"""Where the error in a single column is as large as its variation, the column says nothing."""


@dataclass(frozen=True)
class Limits:
    """The largest figures of `Difference` that pass."""

    relative: float
    columns: float
    labels: float

    @property
    def column(self) -> float:
        """That of a single column, which varies more by chance than a group of them."""
        return max(self.columns, min(3 * self.columns, LOST))


DEFAULTS: Mapping[Arithmetic, Limits] = {
    "fp32": Limits(relative=1e-3, columns=0.01, labels=0.01),
    "fp16": Limits(relative=0.03, columns=0.1, labels=0.05),
    "bf16": Limits(relative=0.25, columns=0.4, labels=0.15),
    "int8": Limits(relative=0.45, columns=0.6, labels=0.25),
}


def limits(
    arithmetic: Arithmetic,
    relative: float | None = None,
    columns: float | None = None,
    labels: float | None = None,
) -> Limits:
    """The limits of `arithmetic`, with what the spec sets in their place."""
    default = DEFAULTS[arithmetic]
    return Limits(
        default.relative if relative is None else relative,
        default.columns if columns is None else columns,
        default.labels if labels is None else labels,
    )


def broken(found: Difference, allowed: Limits) -> str:
    """What of one output is beyond the limits, in words; "" where nothing is. NaN passes nothing.

    Shapes, types, NaN and infinities have no limit that a spec could widen.
    """
    output = f"output '{found.name}'"
    if found.shape:
        return f"{output} has {found.shape}"
    if found.misplaced:
        return (
            f"{output} is NaN or infinite where the other side is not, in {found.misplaced} values"
        )
    if found.labels is not None and not found.labels <= allowed.labels:
        return (
            f"{output} gives another label or number in {found.labels:.0%} > {allowed.labels:.0%}"
        )
    if not found.relative <= allowed.relative:
        return f"{output} differs by {found.relative:.2g} of its norm > {allowed.relative:g}"
    if not found.columns <= allowed.columns:
        return (
            f"{output} differs by {found.columns:.2g} of how its columns vary > "
            f"{allowed.columns:g}, most in {found.worst}"
        )
    if not found.column <= allowed.column:
        return (
            f"{output} differs in {found.worst} by {found.column:.2g} of how it varies > "
            f"{allowed.column:g}"
        )
    return ""


def severity(found: Difference) -> tuple[bool, bool, float]:
    """Orders differences of one output, the worse last."""
    return bool(found.shape), bool(found.misplaced), found.relative
