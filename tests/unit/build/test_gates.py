"""Gates: the figures against their limits."""

from __future__ import annotations

import pytest

from repo_builder import targets
from repo_builder.base import statistics
from repo_builder.build.gates import (
    MEASURE_AGAIN,
    Measurements,
    budget_gates,
    failures,
    limits,
    over_budget,
    slower_than_parent,
    too_few_rows,
    too_large,
)
from repo_builder.build.report.types import Score
from repo_builder.spec.types import Gates


def _score(drop: float, rows: int = 400, interval: tuple[float, float] | None = None) -> Score:
    return Score("accuracy", 0.9, 0.9 - drop, drop, rows, 0.95, interval)


LIMITS = Gates(max_accuracy_drop=0.005, max_size_mb=2.0, max_latency_ms=10.0)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (Measurements(2_000_000, _score(0.005), 10.0), []),
        (Measurements(1, _score(-0.5), 0.1), []),
        (Measurements(1, None, None), []),
        (Measurements(2_000_001, _score(0.0), 1.0), ["size 2 MB > max_size_mb 2"]),
        (Measurements(1, _score(0.0123), 1.0), ["accuracy drop 0.0123 > max_accuracy_drop 0.005"]),
        (Measurements(1, _score(0.0), 12.34), ["latency 12.3 ms > max_latency_ms 10"]),
        (
            Measurements(1, _score(float("nan")), 1.0),
            ["accuracy drop nan > max_accuracy_drop 0.005"],
        ),
        (
            Measurements(1, _score(float("inf")), 1.0),
            ["accuracy drop inf > max_accuracy_drop 0.005"],
        ),
    ],
)
def test_each_gate(measured: Measurements, said: list[str]) -> None:
    assert failures(LIMITS, measured) == said


def test_a_doubtful_latency_meets_no_gate_and_breaks_none_where_there_is_no_limit() -> None:
    doubtful = Measurements(1, _score(0.0), 0.1, "others used 60% of the processor")
    (said,) = failures(LIMITS, doubtful)
    assert said == (
        "latency 0.1 ms cannot be held to max_latency_ms 10: others used 60% of the processor "
        "while it was measured; run `repo-builder build --measure-again` while the machine is quiet"
    )
    assert failures(Gates(max_size_mb=1.0), doubtful) == []


@pytest.mark.parametrize(
    ("faster", "doubt", "says"),
    [
        ((1.5, 1.6, 1.7), "", ""),
        ((1.5, 1.6, 1.7), "others used 60% of the processor", ""),
        ((0.98, 1.0, 1.02), "", ""),
        ((0.5, 0.6, 0.7), "", "is slower than its parent: it takes 5 ms, its parent 3 ms; prune"),
        ((0.5, 0.6, 1.2), "a quota", "takes 5 ms, its parent 3 ms, but a quota while that was"),
    ],
)
def test_a_pruned_model_is_not_slower_than_its_parent(
    faster: tuple[float, ...], doubt: str, says: str
) -> None:
    names = ("faster_low", "faster", "faster_high")
    parent = {"p50_ms": 3.0, **dict(zip(names, faster, strict=True))}
    said = slower_than_parent(5.0, parent, doubt)
    assert len(said) == bool(says)
    assert says in "".join(said)


@pytest.mark.parametrize(
    ("total", "limit", "doubt", "said"),
    [
        (20.0, 25.0, "", ""),
        (None, 25.0, "", ""),
        (20.0, None, "a quota", ""),
        (26.0, 25.0, "", "latency 26 ms > latency_budget_ms 25"),
        (float("nan"), 25.0, "", "latency nan ms > latency_budget_ms 25"),
        (
            20.0,
            25.0,
            "others used 60% of the processor",
            "latency 20 ms cannot be held to latency_budget_ms 25: others used 60% of the "
            f"processor while it was measured; {MEASURE_AGAIN}",
        ),
        (
            26.0,
            25.0,
            "others used 60% of the processor",
            "latency 26 ms > latency_budget_ms 25, but others used 60% of the processor while it "
            f"was measured; {MEASURE_AGAIN}",
        ),
    ],
)
def test_a_budget_is_kept_by_no_doubtful_total(
    total: float | None, limit: float | None, doubt: str, said: str
) -> None:
    spent = {} if total is None else {"total": total}
    limits = {} if limit is None else {"total": limit}
    assert over_budget(budget_gates(limits, spent, doubt)) == said


def test_stages_have_limits_of_their_own() -> None:
    spent = {"preprocess": 6.2, "infer": 1.0, "postprocess": 0.1, "total": 9.0}
    found = budget_gates({"total": 20.0, "preprocess": 5.0, "infer": 0.5}, spent, "")
    assert over_budget(found).splitlines() == [
        "preprocess 6.2 ms > latency_budget_ms.preprocess 5",
        "infer 1 ms > latency_budget_ms.infer 0.5",
    ]
    assert [gate.held for gate in found] == [True, False, False]
    (unknown,) = budget_gates({"total": 5.0}, {}, "no Triton is here", " at 9/s")
    said = "latency_budget_ms at 9/s 5 cannot be verified: no Triton is here"
    assert (over_budget([unknown]), unknown.held) == (said, False)


def test_weights_that_alone_exceed_the_memory() -> None:
    device = targets.load()["movidius-myriad-x"]
    free = int(512 - (device.assumptions.reserved_mb if device.assumptions else 0)) * 2**20
    assert too_large(device, free) == []
    assert too_large(device, free + 1) == [
        f"its weights alone take {free // 2**20 + 1} MB, movidius-myriad-x has "
        f"{free // 2**20} MB free of 512; use a smaller model or a lower precision"
    ]


@pytest.mark.parametrize("name", ["cpu", "ethos-u55", "tflite-micro"])
def test_memory_that_is_not_known_or_not_where_weights_lie(name: str) -> None:
    assert too_large(targets.load()[name], 10**12) == []


def test_all_failures_come_at_once() -> None:
    assert len(failures(LIMITS, Measurements(9_000_000, _score(1.0), 99.0))) == 3


def test_without_limits_all_is_good() -> None:
    assert failures(Gates(), Measurements(10**12, 1.0, 1e9)) == []


def test_with_a_confidence_the_upper_end_of_the_interval_is_held_to_the_limit() -> None:
    certain = Gates(max_accuracy_drop=0.01, confidence=0.95)
    good = Measurements(1, _score(0.0, 400, (-0.009, 0.009)), None)
    assert failures(certain, good) == []
    assert [gate.held for gate in limits(certain, good)] == [True]
    unsure = Measurements(1, _score(0.005, 400, (-0.015, 0.025)), None)
    assert failures(Gates(max_accuracy_drop=0.01), unsure) == []
    assert failures(certain, unsure) == [
        "accuracy drop 0.005 lies with 0.95 confidence between -0.015 and 0.025 > "
        "max_accuracy_drop 0.01; of 400 rows, about 6400 would tell"
    ]
    assert [gate.held for gate in limits(certain, unsure)] == [False]


def test_an_interval_that_cannot_be_told_meets_no_gate() -> None:
    certain = Gates(max_accuracy_drop=0.01, confidence=0.95)
    unknown = Measurements(1, _score(0.0, 5, None), None)
    assert failures(certain, unknown) == [
        "5 rows cannot tell with 0.95 confidence whether the accuracy drop 0 keeps "
        "max_accuracy_drop 0.01; give more evaluation data"
    ]
    assert [gate.held for gate in limits(certain, unknown)] == [False]


def test_worse_than_the_limit_needs_no_more_rows() -> None:
    certain = Gates(max_accuracy_drop=0.01, confidence=0.95)
    interval = statistics.of_proportions(40, 0, 400, 0.95)
    (said,) = failures(certain, Measurements(1, _score(0.1, 400, interval), None))
    assert "would tell" not in said


def test_a_row_that_outweighs_the_limit_is_told() -> None:
    gates = Gates(max_accuracy_drop=0.005)
    assert too_few_rows(gates, _score(0.0, 200)) == []
    assert too_few_rows(gates, _score(0.0, 100)) == [
        "one of 100 evaluation rows weighs 0.01, more than max_accuracy_drop 0.005; give more "
        "evaluation data"
    ]
