"""What a spec asks of quantization, held against what the target's runtime truly computes."""

from __future__ import annotations

from collections.abc import Callable

from repo_builder.spec import types
from repo_builder.spec.raw import RawOptimize
from repo_builder.targets import Target, support
from repo_builder.targets.support.quantization import METHODS, REPAIRS, Combination

AT = ("optimize", "quantization")
Report = Callable[[tuple[str, ...], str, str], None]
"""Takes the place of a problem, what is wrong, and what to write."""


def quantization(
    raw: RawOptimize, target: Target, *, has_calibration: bool, problem: Report
) -> types.Quantization:
    """The resolved form; calls `problem` for what is asked and cannot be had on this target.

    Options that a spec does not mention are what the target's table says. Nothing is asked of the
    table where the precision is not int8.
    """
    asked = raw.quantization
    given = types.Quantization(
        weights=asked.weights,
        activations=asked.activations,
        symmetric=bool(asked.symmetric),
        method=asked.method,
        percentile=asked.percentile,
        per_channel=asked.per_channel,
        exclude=tuple(asked.exclude),
    )
    if raw.precision != "int8":
        _unread(raw, problem)
        return given
    row = support.combination(target, asked.weights, asked.activations)
    if row.why_not:
        other = asked.activations != "int8"
        at = (*AT, "activations" if other else "weights")
        problem(at, f"{target.name} does not compute {row.name}: {row.why_not}", row.instead)
        return given
    symmetric = row.symmetric if asked.symmetric is None else asked.symmetric
    if target.int8 == "s8s8" and given.stored:
        if asked.symmetric is False and "asymmetric" not in row.lacks:
            problem(
                (*AT, "symmetric"), f"{target.name} takes zero points of 0 only", "leave it out"
            )
        symmetric = True
    repair = row.repair if asked.repair is None else tuple(dict.fromkeys(asked.repair))
    if not (given.stored or has_calibration):
        if asked.repair:
            fix = "add `data: {calibration: {path: ...}}`"
            problem((*AT, "repair"), f"'{asked.repair[0]}' needs calibration data", fix)
        repair = ()
    _lacking(raw, row, target, problem)
    return types.Quantization(
        **{**vars(given), "symmetric": symmetric, "repair": repair},
    )


def _unread(raw: RawOptimize, problem: Report) -> None:
    """Tell who asks for other weights or activations, and names no precision, that it is fp32."""
    for key in ("weights", "activations"):
        if key in raw.quantization.model_fields_set and "precision" not in raw.model_fields_set:
            what = f"is read with `precision: int8` only, and the precision is {raw.precision}"
            problem((*AT, key), what, "write `optimize: {precision: int8}`")
            return


def _lacking(raw: RawOptimize, row: Combination, target: Target, problem: Report) -> None:
    """Tell which options a spec names that the combination has not."""
    asked, named = raw.quantization, raw.quantization.model_fields_set
    options: list[tuple[str, str]] = []
    if asked.symmetric is not None:
        options.append(("symmetric", "symmetric" if asked.symmetric else "asymmetric"))
    if "per_channel" in named:
        options.append(("per_channel", "per channel" if asked.per_channel else "per tensor"))
    if "method" in named:
        options.append(("method", asked.method))
    options += [("repair", repair) for repair in asked.repair or ()]
    for key, option in options:
        if option in row.lacks:
            others = {"method": row.having(*METHODS), "repair": row.having(*REPAIRS)}.get(key, ())
            fix = f"it has: {', '.join(others)}" if others else "leave it out"
            what = f"{target.name} has no '{option}' with {row.name}: {row.lacks[option]}"
            problem((*AT, key), what, fix)
