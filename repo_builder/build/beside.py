"""What a variant has gained over the fp32 of the same model, and what it has lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from repo_builder.base.artifact import Entry
from repo_builder.base.errors import RepoBuilderError
from repo_builder.build.report.types import Fp32, Score
from repo_builder.plan import Variant
from repo_builder.plan.recipes import FP32
from repo_builder.spec.metrics import IN_POINTS, REQUIRES
from repo_builder.spec.types import Spec

SCORE = "score"

_SAME = 1.05
"""Ratios up to this are called the same."""


def fp32(
    runtime: str,
    size: int,
    score: Score | None,
    built: Entry | None,
    profile: Entry | None,
    source_size: int,
    doubt: str,
) -> Fp32:
    """A variant of `size` bytes beside fp32.

    `built` is the fp32 for its `runtime`, `profile` the variant's, which timed both in turns.
    Where there is none it stands beside the source, whose latency in its runtime nobody knows.
    `doubt` is that of the latency.
    """
    facts: Any = profile.facts["fp32"] if profile and built else None
    timing = facts or {}
    whole = built.artifact.size if built else source_size
    smaller = whole / max(1, size)
    faster: float | None = timing.get("faster")
    said = [_ratio(smaller, "smaller", "larger", "size")]
    if faster is not None:
        in_noise = timing["faster_low"] <= 1 <= timing["faster_high"]
        speed = _ratio(1.0 if in_noise else faster, "faster", "slower", "speed")
        said.append(f"{speed} ?" if doubt else speed)
    if score is not None:
        said.append(_score(score))
    return Fp32(
        runtime=runtime if built else "",
        size=whole,
        smaller=smaller,
        score=score.source if score else None,
        score_change=score.built - score.source if score else None,
        latency_ms=timing.get("p50_ms"),
        faster=faster,
        faster_low=timing.get("faster_low"),
        faster_high=timing.get("faster_high"),
        text=", ".join(said),
    )


def apart(
    variant: Variant, errors: Mapping[str, RepoBuilderError]
) -> tuple[list[RepoBuilderError], RepoBuilderError | None]:
    """What failed of a variant, and apart from it why there is no fp32 to compare with.

    A variant does without that, unless a gate needs the latency that is measured beside it.
    """
    found = {step: errors[key] for step, key in variant.steps.items() if key in errors}
    own = {step: error for step, error in found.items() if step not in (FP32, SCORE)}
    if own.get("profile") is found.get(FP32):  # what waits for a step that failed has its error
        own.pop("profile", None)
    if own or variant.spec.gates.max_latency_ms is not None:
        return list(found.values()), None
    return [], found.get(FP32) or found.get(SCORE)


def in_runtime(score: Score | None, scored: Entry | None, spec: Spec) -> Score | None:
    """`score` against the fp32 in the same runtime, where `scored` has run that.

    Without it: against the source, which runs in ONNX Runtime.
    """
    if score is None or scored is None or spec.evaluation is None:
        return score
    evaluation: Any = spec.evaluation
    fp32: Any = scored.facts["score"]
    higher = (evaluation.own or REQUIRES[evaluation.metric]).higher_is_better
    drop = fp32 - score.built if higher else score.built - fp32
    return replace(score, source=fp32, drop=drop, interval=None)


def _ratio(ratio: float, more: str, less: str, what: str) -> str:
    """ "3.2x smaller", "1.4x larger", or "same size"."""
    if max(ratio, 1 / ratio) <= _SAME:
        return f"same {what}"
    shown = max(ratio, 1 / ratio)
    times = f"{shown:.0f}" if shown >= 10 else f"{shown:.1f}" if shown >= 1.1 else f"{shown:.2f}"
    return f"{times}x {more if ratio > 1 else less}"


def _score(score: Score) -> str:
    """ "-0.1 points", or the change of a metric that has no such scale."""
    if score.metric in IN_POINTS:
        points = -100 * score.drop
        return "same score" if abs(points) < 0.05 else f"{points:+.1f} points"
    change = score.built - score.source
    if not change:
        return f"same {score.metric}"
    return f"{score.metric} {change:+.2g} ({'worse' if score.drop > 0 else 'better'})"
