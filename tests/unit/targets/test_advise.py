"""Estimates, verdicts and ranking, on targets and workloads whose figures are round."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.targets import Target
from repo_builder.targets.advise import Machine, Need, Workload, battery_hours, rank, yearly_cost
from repo_builder.targets.advise.roofline import footprint, timing
from repo_builder.targets.advise.workload import Layer

MACHINE = Machine(cores=2, memory_mb=4000)
ROUND = """
extends: cpu
sources: {x: {title: X}}
cpu: {cores: 4, source: x}
memory: {size_mb: 1000, bandwidth_gb_s: 10, source: x}
precisions: [fp32, fp16, int8]
engines:
  - name: npu
    title: NPU
    slices: 4
    clock_mhz: 1000
    source: x
    ops: [Conv]
    compute:
      - {precision: int8, dense_tops: 1.0, source: x}
      - {precision: fp16, dense_tops: null, note: unknown}
power_modes:
  - {name: low, watts: 6, clocks_mhz: {npu: 500}, slices: {npu: 2}, source: x}
  - {name: high, watts: 20, clocks_mhz: {npu: 1000}, slices: {npu: 4}, source: x}
assumptions: {efficiency: 0.5, depthwise_efficiency: 0.1, bandwidth_efficiency: 1.0, layer_us: 100,
  runtime_mb: 100, reserved_mb: 200, idle_watts: 2, note: round}
"""


@pytest.fixture
def device(tmp_path: Path) -> Target:
    (tmp_path / "round.yaml").write_text(ROUND, encoding="utf-8")
    return targets.load(tmp_path)["round"]


def work(macs: int = 10**9, depthwise: bool = False, **counts: int) -> Workload:
    layer = Layer("Conv", macs, counts.get("weights", 0), 0, counts.get("writes", 0), depthwise)
    return Workload("w", 1, (layer,), counts.get("live", 0), frozenset({"Conv"}))


def test_compute_takes_clock_and_slices_of_the_mode(device: Target) -> None:
    low, high = device.power_modes
    # 2e9 operations at half of 1e12 a second, and 0.1 ms for the layer
    assert timing(work(), device, "int8", high, MACHINE).latency_ms == pytest.approx(4.1)
    # a quarter of the rate, and the layer's cost at half the clock
    assert timing(work(), device, "int8", low, MACHINE).latency_ms == pytest.approx(16.2)


def test_the_longer_of_work_and_data_counts(device: Target) -> None:
    data = timing(work(writes=10**8), device, "int8", None, MACHINE)
    assert (data.compute_ms, data.memory_ms) == (pytest.approx(4), pytest.approx(10))
    assert data.latency_ms == pytest.approx(10.1)
    assert data.bound == "memory"


def test_depthwise_reaches_less(device: Target) -> None:
    slow = timing(work(depthwise=True), device, "int8", None, MACHINE)
    assert slow.compute_ms == pytest.approx(20)


def test_cpu_targets_use_the_cores_of_the_machine() -> None:
    cpu = targets.load()["cpu"]
    two, four = (timing(work(), cpu, "fp32", None, Machine(n, 1)).compute_ms for n in (2, 4))
    assert two == pytest.approx(2 * four)


def test_memory_is_weights_activations_and_runtime(device: Target) -> None:
    mega = 2**20
    small = footprint(work(weights=50 * mega, live=20 * mega), device, "fp16", MACHINE)
    assert (small.needed_mb, small.available_mb) == (2 * 70 + 100, 800)
    assert small.fits


def test_a_model_too_large_for_its_memory(device: Target) -> None:
    (first, *_) = rank(work(weights=2**30), [device], Need(), MACHINE)
    assert first.verdict == "no"
    assert first.why == ("needs 1.12e+03 MB of memory, has 800 free",)


def test_a_model_too_large_for_a_microcontrollers_flash() -> None:
    micro = targets.load()["tflite-micro"]
    (only,) = rank(work(weights=3 * 2**20), [micro], Need(), MACHINE)
    assert only.verdict == "no"
    assert "needs 3072 KB of flash, has 2048" in only.why


def test_a_precision_the_device_lacks() -> None:
    (only,) = rank(work(), [targets.load()["ethos-u55"]], Need(), MACHINE, "fp16")
    assert (only.verdict, only.why[0]) == ("no", "lacks fp16; it has int8")


def test_an_unknown_rate_is_no_promise(device: Target) -> None:
    (first, *_) = rank(work(), [device], Need(fps=1), MACHINE, "fp16")
    assert (first.verdict, first.timing) == ("unknown", None)
    assert first.why == ("no fp16 rate is known for it",)


@pytest.mark.parametrize(("limit", "verdict"), [(9, "yes"), (5, "maybe"), (4, "no")])
def test_yes_holds_at_twice_the_estimate(device: Target, limit: float, verdict: str) -> None:
    found = rank(work(), [device], Need(latency_ms=limit), MACHINE)
    assert next(c.verdict for c in found if c.id == "round/high") == verdict


def test_power_is_the_most_a_mode_may_draw(device: Target) -> None:
    low, high = rank(work(), [device], Need(fps=10, power_w=10), MACHINE)
    assert (low.id, low.verdict) == ("round/low", "yes")
    assert (high.id, high.verdict, high.why) == ("round/high", "no", ("may draw 20 W",))


def test_least_average_power_comes_first_among_those_that_fit(device: Target) -> None:
    first, second = rank(work(), [device], Need(fps=20), MACHINE)
    # low: 16.2 ms at 20 fps is busy 32% of 6 W; high: 4.1 ms, 8.2% of 20 W
    assert first.id == "round/low"
    assert first.watts == pytest.approx(2 + 4 * 0.324)
    assert second.watts == pytest.approx(2 + 18 * 0.082)
    assert first.millijoules == pytest.approx(first.watts / 20 * 1e3)


def test_operators_off_the_engine_are_said_and_cost_the_yes(device: Target) -> None:
    layer = Layer("Loop", 0, 0, 0, 0)
    foreign = Workload("w", 1, (layer,), 0, frozenset({"Conv", "Loop"}))
    (first, *_) = rank(foreign, [device], Need(fps=1), MACHINE)
    assert (first.verdict, first.why) == ("maybe", ("off its npu: Loop",))


def test_battery_keeps_paying_for_the_system() -> None:
    """The guide's V.C with its last line put right."""
    assert battery_hours(100, 15, 2) == pytest.approx(5.88, abs=0.01)
    assert battery_hours(100, 6, 2) == 12.5


def test_yearly_cost() -> None:
    assert yearly_cost(10, 0.30) == pytest.approx(26.28)
