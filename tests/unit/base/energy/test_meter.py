"""Counters and watts, added up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from repo_builder.base import energy
from repo_builder.base.energy import About, Meter
from tests.unit.base.energy import trees


class Watts:
    """A sensor that tells a list of values, then the last for ever; notes how often it was read."""

    def __init__(self, *values: float) -> None:
        self.about = About("test", "sensor", "board", "W", 0.01)
        self.values = list(values)
        self.reads = 0
        self.enough = threading.Event()

    def read(self) -> float:
        self.reads += 1
        if self.reads >= 5:
            self.enough.set()
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def _set(root: Path, name: str, value: int) -> None:
    (root / "sys/class/powercap" / name / "energy_uj").write_text(f"{value}\n")


def test_packages_are_added_up_and_begin_anew_at_their_range(tmp_path: Path) -> None:
    trees.xeon(tmp_path)
    meter = energy.meter(tmp_path)
    assert meter is not None
    assert meter.block_s < 1
    with meter:
        assert meter.joules() == 0
        _set(tmp_path, "intel-rapl:0", 1_500_000)
        _set(tmp_path, "intel-rapl:0:0", 600_000)
        assert meter.joules() == pytest.approx(0.6)
        _set(tmp_path, "intel-rapl:1", 262_143_328_850)
        meter.joules()
        before = meter.joules()
        _set(tmp_path, "intel-rapl:1", 9_000)
        assert meter.joules() - before == pytest.approx(0.009)


def test_a_counter_that_goes_back_without_a_range_spoils_the_sum(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    meter = energy.meter(tmp_path)
    assert meter is not None
    with meter:
        _set(tmp_path, "intel-rapl:1", 3)
        with pytest.raises(energy.CannotRead, match="went back"):
            meter.joules()


def test_a_source_that_is_lost_meanwhile_spoils_the_sum(tmp_path: Path) -> None:
    trees.orin_nx(tmp_path)
    meter = energy.meter(tmp_path)
    assert meter is not None
    with meter:
        (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()
        with pytest.raises(energy.CannotRead, match="curr1_input"):
            meter.joules()
        trees.write(tmp_path, {"sys/class/hwmon/hwmon1/curr1_input": 1104})
        with pytest.raises(energy.CannotRead):  # what passed meanwhile stays unknown
            meter.joules()


def test_watts_are_integrated_by_a_thread_of_its_own(tmp_path: Path) -> None:
    sensor = Watts(10.0)
    with Meter([sensor], tmp_path, every_s=0.001) as meter:
        assert sensor.enough.wait(10)
        spent = meter.joules()
        seconds = meter._samples[0][-1][0] - meter._samples[0][0][0]
    assert spent == pytest.approx(10.0 * seconds)
    assert not any(thread.name == "energy" for thread in threading.enumerate())
    assert meter.doubts() == ()


@pytest.mark.parametrize("watts", [-3.0, 40_000.0])
def test_watts_that_cannot_be_are_told(tmp_path: Path, watts: float) -> None:
    with Meter([Watts(watts)], tmp_path) as meter:
        meter.joules()
    (doubt,) = meter.doubts()
    assert "is absurd for a board" in doubt
