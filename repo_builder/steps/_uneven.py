"""Values too far apart for one int8 scale: masks beside scores, pixels beside probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from repo_builder.steps._calibrate import Array, Histogram

HUGE = 1e6
"""Values beyond are no activations but masks or sizes; products of their scales overflow."""

_MASK = "mask with a value near the others (-100), or outside the model"


@dataclass(frozen=True)
class Limits:
    """What int8 can bear: `gap` as in `Histogram`; `uneven` is the largest factor between inputs of
    a Concat, which leaves the smaller one 256 / `uneven` levels.
    """

    gap: int
    uneven: float


TO_FLOAT = Limits(gap=1, uneven=16)
"""Beyond, an operator stays in floating point, which costs time only."""

TO_REFUSE = Limits(gap=3, uneven=16)
"""Beyond, a model is refused where nothing can stay in floating point."""

INSIDE = Limits(gap=3, uneven=64)
"""As `TO_REFUSE`, for an operator that other weights follow: what they make of it is judged."""


@dataclass(frozen=True)
class Around:
    """Names of an operator's tensors. `joins`: its inputs end on one scale, side by side.

    `heavy`: it has weights, so that its answer is judged as a whole.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    joins: bool = False
    heavy: bool = False


def why(
    around: Around, seen: Mapping[str, Histogram], constants: Mapping[str, float], limits: Limits
) -> tuple[str, str] | None:
    """What int8 would do to an operator, and a way out; None where it does no harm.

    `seen`: what tensors were on calibration data; `constants`: the largest magnitude of others.
    """
    tensors = [(name, seen[name]) for name in (*around.inputs, *around.outputs) if name in seen]
    for name, values in tensors:
        if values.infinite:
            return f"reads or makes infinite values ('{name}')", _MASK
    magnitudes = {name: values.largest for name, values in tensors}
    magnitudes |= {name: constants[name] for name in around.inputs if name in constants}
    for name, magnitude in magnitudes.items():
        if magnitude > HUGE:
            return f"works on values up to {magnitude:.3g} ('{name}')", _MASK
    if around.heavy:
        return None
    if around.joins and (
        found := _uneven({n: magnitudes[n] for n in around.inputs if magnitudes.get(n)}, limits)
    ):
        return found
    for name, values in tensors:
        if values.gap > limits.gap:
            what = f"joins values up to {values.largest:.3g} with far smaller ones in '{name}'"
            return what, _MASK
    return None


def largest(values: Array) -> float:
    """The largest magnitude of an array; 0 where it is empty."""
    return float(np.abs(values).max(initial=0.0))


def _uneven(magnitudes: Mapping[str, float], limits: Limits) -> tuple[str, str] | None:
    if not magnitudes:
        return None
    most = max(magnitudes, key=lambda name: magnitudes[name])
    least = min(magnitudes, key=lambda name: magnitudes[name])
    if magnitudes[least] * limits.uneven >= magnitudes[most]:
        return None
    levels = 256 * magnitudes[least] / magnitudes[most]
    what = (
        f"puts '{most}' (up to {magnitudes[most]:.3g}) and '{least}' (up to "
        f"{magnitudes[least]:.3g}) on one scale, which leaves the smaller {levels:.1f} of 256 "
        "levels"
    )
    return what, "end the model before it: make its inputs outputs of the model"
