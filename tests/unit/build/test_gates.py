"""Gates: the figures against their limits."""

from __future__ import annotations

import pytest

from repo_builder import targets
from repo_builder.build.gates import Measurements, failures, too_large
from repo_builder.spec.types import Gates

LIMITS = Gates(max_accuracy_drop=0.005, max_size_mb=2.0, max_latency_ms=10.0)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (Measurements(2_000_000, 0.005, 10.0), []),
        (Measurements(1, -0.5, 0.1), []),
        (Measurements(1, None, None), []),
        (Measurements(2_000_001, 0.0, 1.0), ["size 2 MB > max_size_mb 2"]),
        (Measurements(1, 0.0123, 1.0), ["accuracy drop 0.0123 > max_accuracy_drop 0.005"]),
        (Measurements(1, 0.0, 12.34), ["latency 12.3 ms > max_latency_ms 10"]),
        (Measurements(1, float("nan"), 1.0), ["accuracy drop nan > max_accuracy_drop 0.005"]),
        (Measurements(1, float("inf"), 1.0), ["accuracy drop inf > max_accuracy_drop 0.005"]),
    ],
)
def test_each_gate(measured: Measurements, said: list[str]) -> None:
    assert failures(LIMITS, measured) == said


def test_a_doubtful_latency_meets_no_gate_and_breaks_none_where_there_is_no_limit() -> None:
    doubtful = Measurements(1, 0.0, 0.1, "others used 60% of the processor")
    (said,) = failures(LIMITS, doubtful)
    assert said == (
        "latency 0.1 ms cannot be held to max_latency_ms 10: others used 60% of the processor "
        "while it was measured; run `repo-builder build --measure-again` while the machine is quiet"
    )
    assert failures(Gates(max_size_mb=1.0), doubtful) == []


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
    assert len(failures(LIMITS, Measurements(9_000_000, 1.0, 99.0))) == 3


def test_without_limits_all_is_good() -> None:
    assert failures(Gates(), Measurements(10**12, 1.0, 1e9)) == []
