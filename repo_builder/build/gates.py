"""The gates of a spec, applied to what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repo_builder.base import statistics
from repo_builder.build.report.types import Gate, Score
from repo_builder.spec.types import Gates
from repo_builder.targets import Target

MEASURE_AGAIN = "run `repo-builder build --measure-again` while the machine is quiet"
"""The cure of a latency that is not to be trusted."""


@dataclass(frozen=True)
class Measurements:
    """What the gates look at; None where it was not measured.

    `doubt` says why the latency is not to be trusted; "" where it is.
    """

    size: int
    score: Score | None
    latency_ms: float | None
    doubt: str = ""


def failures(gates: Gates, measured: Measurements) -> list[str]:
    """One line for each gate that fails, with the figures; [] where all hold.

    NaN meets no gate, nor does a latency that is not to be trusted.
    """
    lines = []
    latency, size = measured.latency_ms, measured.size / 1e6
    if (score := measured.score) and gates.max_accuracy_drop is not None:
        lines += _accuracy(score, gates.max_accuracy_drop, gates.confidence)
    if _fails(size, gates.max_size_mb):
        lines.append(f"size {size:.3g} MB > max_size_mb {gates.max_size_mb:g}")
    if latency is not None and gates.max_latency_ms is not None and measured.doubt:
        lines.append(
            f"latency {latency:.3g} ms cannot be held to max_latency_ms {gates.max_latency_ms:g}: "
            f"{measured.doubt} while it was measured; {MEASURE_AGAIN}"
        )
    elif _fails(latency, gates.max_latency_ms):
        lines.append(f"latency {latency:.3g} ms > max_latency_ms {gates.max_latency_ms:g}")
    return lines


def _accuracy(score: Score, limit: float, confidence: float | None) -> list[str]:
    if confidence is None:
        failed = _fails(score.drop, limit)
        return [f"accuracy drop {score.drop:.4g} > max_accuracy_drop {limit:g}"] if failed else []
    certain = f"with {confidence:.3g} confidence"
    if score.interval is None:
        return [
            f"{score.rows} rows cannot tell {certain} whether the accuracy drop {score.drop:.4g} "
            f"keeps max_accuracy_drop {limit:g}; give more evaluation data"
        ]
    if not _fails(score.interval[1], limit):
        return []
    low, high = score.interval
    said = f"accuracy drop {score.drop:.4g} lies {certain} between {low:.3g} and {high:.3g}"
    needed = statistics.rows_needed((low, high), score.rows, limit)
    enough = f"; of {score.rows} rows, about {needed} would tell" if needed else ""
    return [f"{said} > max_accuracy_drop {limit:g}{enough}"]


def slower_than_parent(latency_ms: float, parent: Mapping[str, float], doubt: str) -> list[str]:
    """One line where a pruned model is slower than what it was pruned from; [] where it is not.

    `parent` is what `profile` found of it, timed in turns with ours: `faster`, with its quartiles,
    is how many times our time it takes. Where the model is as fast or faster in three quarters of
    the turns, a `doubt` about the times as such says nothing against that.
    """
    if parent["faster_low"] >= 1:
        return []
    both = f"{latency_ms:.3g} ms, its parent {parent['p50_ms']:.3g} ms"
    if doubt:
        return [
            f"the pruned model takes {both}, but {doubt} while that was measured; {MEASURE_AGAIN}"
        ]
    if parent["faster_high"] >= 1:
        return []
    fix = "prune by `of: latency`, or with a `round_to` of 8 or 16"
    return [f"the pruned model is slower than its parent: it takes {both}; {fix}"]


def too_few_rows(gates: Gates, score: Score | None) -> list[str]:
    """What to say where a single answer weighs more than the whole limit on the score."""
    limit = gates.max_accuracy_drop
    if not limit or score is None or not score.rows or score.metric not in ("accuracy", "top5"):
        return []
    if 1 / score.rows <= limit:
        return []
    return [
        f"one of {score.rows} evaluation rows weighs {1 / score.rows:.2g}, more than "
        f"max_accuracy_drop {limit:g}; give more evaluation data"
    ]


def limits(gates: Gates, measured: Measurements) -> tuple[Gate, ...]:
    """The limits that the spec sets, each with what was measured."""
    size = measured.size / 1e6
    drop, unsure = (score.drop, "") if (score := measured.score) else (None, "")
    if score and gates.confidence is not None:
        drop = score.interval[1] if score.interval else None
        unsure = "" if score.interval else "too few rows for an interval"
    all_of_them: tuple[tuple[str, float | None, float | None, str, str, float | None], ...] = (
        ("max_accuracy_drop", drop, gates.max_accuracy_drop, "", unsure, gates.confidence),
        ("max_size_mb", size, gates.max_size_mb, "MB", "", None),
        ("max_latency_ms", measured.latency_ms, gates.max_latency_ms, "ms", measured.doubt, None),
    )
    return tuple(
        Gate(name, figure, limit, unit, doubt, confidence)
        for name, figure, limit, unit, doubt, confidence in all_of_them
        if limit is not None
    )


def too_large(target: Target, size: int) -> list[str]:
    """What to say of `size` bytes of weights that alone exceed a device's memory; [] if they fit.

    A device whose memory is not known, or is this machine's, is not judged, nor is one that keeps
    weights elsewhere. What activations and the runtime take comes on top: see `targets advise`.
    """
    free = target.free_mb()
    if free is None or target.micro or size <= free * 2**20:
        return []
    needed = math.ceil(size / 2**20)
    return [
        f"its weights alone take {needed} MB, {target.name} has {free:.4g} MB free of "
        f"{target.memory.size_mb:g}; use a smaller model or a lower precision"
    ]


def budget_gates(
    budget: Mapping[str, float], spent_ms: Mapping[str, float], doubt: str, where: str = ""
) -> tuple[Gate, ...]:
    """The limits of a pipeline's budget, `total` and stages, each with what it took.

    `spent_ms` is {} where nothing was measured, `where` says " at 100/s" of what was under load.
    Times that are not to be trusted, for the reason `doubt`, keep no budget.
    """
    return tuple(
        Gate(f"latency_budget_ms{_part(name)}{where}", spent_ms.get(name), limit, "ms", doubt)
        for name, limit in budget.items()
    )


def _part(name: str) -> str:
    return "" if name == "total" else f".{name}"


def over_budget(budget: Sequence[Gate]) -> str:
    """What to say of a pipeline that takes longer than its budget, a line for each limit; ""
    where it does not."""
    return "\n".join(filter(None, map(_over, budget)))


def _over(gate: Gate) -> str:
    spent, limit = gate.measured, f"{gate.name} {gate.limit:g}"
    if spent is None:
        return f"{limit} cannot be verified: {gate.doubt}" if gate.doubt else ""
    what = gate.name.partition(".")[2].partition(" ")[0] or "latency"
    unsure = f"{gate.doubt} while it was measured; {MEASURE_AGAIN}"
    if _fails(spent, gate.limit):
        over = f"{what} {spent:.3g} ms > {limit}"
        return f"{over}, but {unsure}" if gate.doubt else over
    kept = f"{what} {spent:.3g} ms cannot be held to {limit}: {unsure}"
    return kept if gate.doubt else ""


def _fails(figure: float | None, limit: float | None) -> bool:
    return figure is not None and limit is not None and not figure <= limit
