"""What is said of a variant beside the fp32 of the same model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from repo_builder.base.artifact import Artifact, Blob, Entry
from repo_builder.base.errors import StepError
from repo_builder.build import beside
from repo_builder.build.report.types import Score
from repo_builder.plan.recipes import FP32
from repo_builder.spec.types import Evaluation, Gates, OwnMetric

A, B = StepError("the disk is full"), StepError("the runtime refuses a batch")


def entry(size: int = 0, **facts: Any) -> Entry:
    return Entry("key", {}, Artifact({"model.onnx": Blob("0", size)}), facts, 0.0)


def profile(faster: float, low: float, high: float) -> Entry:
    ratios = {"faster": faster, "faster_low": low, "faster_high": high}
    return entry(fp32={"p50_ms": 2.0, **ratios})


def score(built: float, metric: str = "accuracy", source: float = 0.9) -> Score:
    return Score(metric, source, built, source - built)


@pytest.mark.parametrize(
    ("size", "timed", "scored", "said"),
    [
        (1000, (2.1, 2.0, 2.2), score(0.899), "3.2x smaller, 2.1x faster, -0.1 points"),
        (1000, (2.1, 2.0, 2.2), score(0.912), "3.2x smaller, 2.1x faster, +1.2 points"),
        (6400, (0.5, 0.4, 0.6), score(0.9), "2.0x larger, 2.0x slower, same score"),
        (3200, (1.3, 0.9, 1.6), None, "same size, same speed"),
        (3100, (1.02, 1.01, 1.03), None, "same size, same speed"),
        (100, (1.07, 1.06, 1.08), None, "32x smaller, 1.07x faster"),
        (1600, (4.0, 3.9, 4.1), Score("mae", 0.5, 0.62, 0.12),
         "2.0x smaller, 4.0x faster, mae +0.12 (worse)"),
        (1600, (4.0, 3.9, 4.1), Score("own", 0.5, 0.62, -0.12),
         "2.0x smaller, 4.0x faster, own +0.12 (better)"),
        (1600, (4.0, 3.9, 4.1), Score("wer", 0.5, 0.5, 0.0),
         "2.0x smaller, 4.0x faster, same wer"),
    ],
)  # fmt: skip
def test_ratios_in_words(
    size: int, timed: tuple[float, float, float], scored: Score | None, said: str
) -> None:
    found = beside.fp32("onnxruntime", size, scored, entry(3200), profile(*timed), 9999, "")
    assert found.text == said
    assert found.smaller == 3200 / size
    assert (found.runtime, found.size, found.latency_ms) == ("onnxruntime", 3200, 2.0)


@pytest.mark.parametrize(
    ("metric", "own", "drop"),
    [("accuracy", None, 0.02), ("wer", None, -0.02), ("own", False, -0.02)],
)
def test_a_score_is_against_the_fp32_of_the_same_runtime(
    metric: Any, own: bool | None, drop: float
) -> None:
    """0.90 in the source, 0.89 in the runtime's fp32, 0.87 in what was built."""
    function = None if own is None else OwnMetric(Path("m.py"), "f", own)
    evaluation = Evaluation(Path("e.npz"), metric, labels={}, outputs={}, own=function)
    spec: Any = SimpleNamespace(evaluation=evaluation)
    given = Score("f", 0.9, 0.87, 0.03)
    found = beside.in_runtime(given, entry(score=0.89), spec)
    assert found is not None
    assert (found.source, found.built) == (0.89, 0.87)
    assert found.drop == pytest.approx(drop)
    assert beside.in_runtime(given, None, spec) == given
    assert beside.in_runtime(None, entry(score=0.89), spec) is None


def test_a_doubtful_time_makes_a_doubtful_ratio() -> None:
    timed = profile(2.0, 1.9, 2.1)
    found = beside.fp32("openvino", 3200, None, entry(3200), timed, 1, "others used half")
    assert found.text == "same size, 2.0x faster ?"


@pytest.mark.parametrize(
    ("bad", "limit", "failed", "aside"),
    [
        ({}, None, [], None),
        ({FP32: A, "profile": A}, None, [], A),
        ({"score": A}, None, [], A),
        ({FP32: A, "score": A, "profile": A}, None, [], A),
        ({FP32: A, "profile": A}, 5.0, [A, A], None),
        ({FP32: A, "profile": B}, None, [A, B], None),
        ({"profile": B}, None, [B], None),
        ({"import": A, FP32: A, "profile": A, "verify": A}, None, [A, A, A, A], None),
    ],
)
def test_a_variant_does_without_its_fp32_unless_a_gate_needs_the_time(
    bad: dict[str, Any], limit: float | None, failed: list[Any], aside: Any
) -> None:
    steps = {step: f"key of {step}" for step in ("import", FP32, "score", "verify", "profile")}
    spec = SimpleNamespace(gates=Gates(max_latency_ms=limit))
    variant: Any = SimpleNamespace(spec=spec, steps=steps)
    errors = {steps[step]: error for step, error in bad.items()}
    assert beside.apart(variant, errors) == (failed, aside)


def test_where_the_runtime_has_no_fp32_the_source_stands_in_without_a_latency() -> None:
    found = beside.fp32("vela", 1000, score(0.88), None, None, 4000, "")
    assert found.text == "4.0x smaller, -2.0 points"
    assert (found.runtime, found.size, found.faster) == ("", 4000, None)
    assert found.score_change == pytest.approx(-0.02)
