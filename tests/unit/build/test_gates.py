"""Gates: the figures against their limits."""

from __future__ import annotations

import pytest

from repo_builder import targets
from repo_builder.build.gates import Measured, failures, too_large
from repo_builder.spec.types import Gates

LIMITS = Gates(max_accuracy_drop=0.005, max_size_mb=2.0, max_latency_ms=10.0)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (Measured(2_000_000, 0.005, 10.0), []),
        (Measured(1, -0.5, 0.1), []),
        (Measured(1, None, None), []),
        (Measured(2_000_001, 0.0, 1.0), ["size 2 MB > max_size_mb 2"]),
        (Measured(1, 0.0123, 1.0), ["accuracy drop 0.0123 > max_accuracy_drop 0.005"]),
        (Measured(1, 0.0, 12.34), ["latency 12.3 ms > max_latency_ms 10"]),
        (Measured(1, float("nan"), 1.0), ["accuracy drop nan > max_accuracy_drop 0.005"]),
        (Measured(1, float("inf"), 1.0), ["accuracy drop inf > max_accuracy_drop 0.005"]),
    ],
)
def test_each_gate(measured: Measured, said: list[str]) -> None:
    assert failures(LIMITS, measured) == said


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
    assert len(failures(LIMITS, Measured(9_000_000, 1.0, 99.0))) == 3


def test_without_limits_all_is_good() -> None:
    assert failures(Gates(), Measured(10**12, 1.0, 1e9)) == []
