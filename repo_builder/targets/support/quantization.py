"""Which combinations of quantization a runtime truly computes: rows of its table of support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from repo_builder.targets.types import (
    ActivationType,
    CalibrationMethod,
    Many,
    Repair,
    Shape,
    Text,
    WeightType,
)

WEIGHTS: Sequence[WeightType] = get_args(WeightType)
ACTIVATIONS: Sequence[ActivationType] = get_args(ActivationType)
METHODS: Sequence[CalibrationMethod] = get_args(CalibrationMethod)
REPAIRS: Sequence[Repair] = get_args(Repair)

OPTIONS = ("asymmetric", "symmetric", "per channel", "per tensor", *METHODS, *REPAIRS)
"""What else a spec may ask of a combination; each is there unless a row `lacks` it."""


class Combination(Shape):
    """One combination of weights and activations in one runtime, on `devices` (none named: all).

    `computed` says how the runtime computes it, as was seen by running it, and `operators` what is
    quantized. Where it is refused, `why_not` says why and `instead` what to write. `lacks` maps
    options (see `OPTIONS`) that it has not to the reason. `symmetric` and `repair` are what a spec
    gets that says nothing of them.
    """

    weights: WeightType
    activations: ActivationType
    devices: Many[Text] = ()
    computed: str = ""
    operators: str = ""
    why_not: str = ""
    instead: str = ""
    lacks: Mapping[str, Text] = {}
    symmetric: bool = False
    repair: Many[Repair] = ()

    @property
    def name(self) -> str:
        """As a spec says it: `weights: int8, activations: none`."""
        return f"weights: {self.weights}, activations: {self.activations}"

    def having(self, *options: str) -> tuple[str, ...]:
        """Those of `options` that it has."""
        return tuple(option for option in options if option not in self.lacks)

    def broken_rules(self) -> Iterator[str]:
        """What of the row contradicts itself."""
        if bool(self.computed) == bool(self.why_not):
            yield "says not whether it is computed"
        if bool(self.why_not) != bool(self.instead):
            yield "a refusal has no way out"
        for option in self.lacks:
            if option not in OPTIONS:
                yield f"there is no option '{option}'"
        if self.computed and ("symmetric" if self.symmetric else "asymmetric") in self.lacks:
            yield "lacks what it does by default"
        for repair in self.repair:
            if repair in self.lacks:
                yield f"lacks '{repair}', which it does by default"


def find(
    rows: Sequence[Combination], weights: WeightType, activations: ActivationType, device: str
) -> Combination:
    """The first row for a combination on a device ("" where the runtime has no names of them)."""
    return next(
        row
        for row in rows
        if (row.weights, row.activations) == (weights, activations)
        and (not row.devices or device in row.devices)
    )


def offered(rows: Sequence[Combination], device: str) -> list[Combination]:
    """The combinations that are computed on a device."""
    found = (find(rows, w, a, device) for w in WEIGHTS for a in ACTIVATIONS)
    return [row for row in found if row.computed]
