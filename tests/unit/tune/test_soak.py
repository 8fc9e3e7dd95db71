"""Soaks: what the end keeps of the start, on made slices and on load that is driven for real."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from repo_builder.client.load import Load
from repo_builder.tune import soak
from repo_builder.tune.soak import judge
from tests.unit.base.energy import trees


def _slices(count: int, calls: Callable[[int], float]) -> tuple[soak.Slice, ...]:
    return tuple(soak.Slice(5.0 * i + 2.5, 5.0, round(calls(i)), 1.0, 2.0, 0) for i in range(count))


def _noisy(seed: int, base: Callable[[int], float], alike: float = 0.0) -> Callable[[int], float]:
    """Rates with noise whose neighbours are `alike` (0..1)."""
    rng, last = random.Random(seed), 0.0  # noqa: S311 - no secret

    def calls(i: int) -> float:
        nonlocal last
        last = alike * last + math.sqrt(1 - alike**2) * rng.gauss(0, 15)
        return base(i) + last

    return calls


def test_a_device_that_throttles_keeps_less_and_is_steady() -> None:
    found = soak.kept(soak.Soak(_slices(240, _noisy(1, lambda i: 1000 if i < 60 else 800))))
    assert found.share == pytest.approx(0.8, abs=0.02)
    assert found.interval is not None
    assert found.interval[0] < 0.8 < found.interval[1]
    assert found.changed
    assert not found.falling
    said = "\n".join(soak.lines(soak.Soak(()), found))
    assert "whether heat is why, nothing here tells" in said
    warm = replace(found, celsius=(40.0, 80.0))
    assert "whether heat is why" not in "\n".join(soak.lines(soak.Soak(()), warm))


def test_a_device_that_goes_on_falling_is_told() -> None:
    found = soak.kept(soak.Soak(_slices(240, _noisy(2, lambda i: 1000 - i))))
    assert found.falling
    assert "soak longer" in "\n".join(soak.lines(soak.Soak(_slices(2, lambda _: 1)), found))


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_nothing_is_said_to_change_where_nothing_does(alike: float) -> None:
    runs = 200
    changed = sum(
        soak.kept(soak.Soak(_slices(240, _noisy(seed, lambda _: 1000, alike)))).changed
        for seed in range(runs)
    )
    assert changed / runs < 0.12  # 5 % by the promise; twelve slices tell little of their likeness


def test_rates_that_others_disturb_are_told() -> None:
    rng = random.Random(3)  # noqa: S311 - no secret
    found = soak.kept(soak.Soak(_slices(240, lambda _: rng.choice((100, 1000)))))
    assert "leave the machine alone" in found.spread
    even = soak.kept(soak.Soak(_slices(240, _noisy(4, lambda _: 1000))))
    assert even.spread == ""


def test_of_a_short_soak_no_interval_is_told() -> None:
    found = soak.kept(soak.Soak(_slices(8, lambda _: 100)))
    assert found.interval is None
    assert not found.changed
    assert "too few slices" in next(soak.lines(soak.Soak(()), found))


def test_nothing_answered_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was answered"):
        soak.kept(soak.Soak(_slices(20, lambda _: 0)))


def test_slices_in_which_a_server_was_gone_count_as_nothing_answered() -> None:
    gone = [
        replace(one, calls=0, p50_ms=None, p99_ms=None, errors=9) if one.at_s > 70 else one
        for one in _slices(20, lambda _: 100)
    ]
    found = soak.kept(soak.Soak(tuple(gone)))
    assert found.share < 1
    assert "54 calls failed" in "\n".join(soak.lines(soak.Soak(tuple(gone)), found))


def test_energy_is_told_only_where_every_slice_has_it() -> None:
    slices = tuple(replace(one, joules=50.0) for one in _slices(20, lambda _: 100))
    whole = soak.kept(soak.Soak(slices, (4.0,) * 15))
    assert whole.energy is not None
    assert whole.energy.joules == pytest.approx(0.3)
    assert whole.watts == pytest.approx(10)
    holed = (*slices[:-1], replace(slices[-1], joules=None))
    assert soak.kept(soak.Soak(holed, (4.0,) * 15)).energy is None
    assert soak.kept(soak.Soak(slices)).energy is None  # idle unknown


def test_it_reads_the_machine_between_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load that warms an Orin NX of files: warmer, slower, throttled, and the watts it takes."""
    trees.orin_nx(tmp_path)
    monkeypatch.setattr("repo_builder.tune.soak.drive._SHORTEST_S", 0.01)
    monkeypatch.setattr("repo_builder.tune.soak.drive._SLICES", 24)
    monkeypatch.setattr("repo_builder.tune.soak.drive.IDLE_S", 0.01)
    turns = 0

    async def load(seconds: float) -> Load:
        nonlocal turns
        turns += 1
        trees.write(
            tmp_path,
            {
                "sys/class/thermal/thermal_zone0/temp": 63_625 + 100 * turns,
                "sys/class/hwmon/hwmon3/oc3_event_cnt": 37 + turns,
                "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 1_984_000 - turns,
                "proc/stat": f"cpu  {100 + 9 * turns} 0 100 {800 + turns} 0 0 0 0 0 0",
            },
        )
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        return Load([0.001] * 20, time.perf_counter() - begun)

    heard: list[float] = []
    found = asyncio.run(soak.run(load, 0.5, root=tmp_path, told=lambda _, done: heard.append(done)))
    assert len(found.slices) == turns
    assert heard[-1] == 1.0
    assert found.slices[0].celsius == 63.725
    assert found.slices[0].busy == pytest.approx(0.9)
    assert len(found.idle_watts) == 15
    what = soak.kept(found)
    assert what.throttles == (("over-current oc3", turns),)
    assert what.watts == pytest.approx(4.968 * 1.104, rel=0.01)
    said = "\n".join(soak.lines(found, what))
    assert "W at rest; " in said
    ElementTree.fromstring(soak.chart("soak", found, what))  # noqa: S314 - our own
    assert any("cv0-thermal: -256 C" in line for line in found.missing)


def test_a_machine_without_sensors_says_what_it_lacks(tmp_path: Path) -> None:
    async def load(_: float) -> Load:
        await asyncio.sleep(0.05)
        return Load([0.001] * 5, 0.05)

    found = asyncio.run(soak.run(load, 0.1, root=tmp_path))
    assert found.idle_watts == ()
    assert any(line.startswith("rapl: this machine has no counters") for line in found.missing)
    assert any(line.startswith("temperature: no thermal zone") for line in found.missing)
    assert soak.kept(found).energy is None


def test_slices_are_short_enough_for_ten_in_the_first_part() -> None:
    for seconds in (60, 120, 600, 1200, 7200):
        first = min(judge.FIRST_S, seconds / 4)
        assert first / soak.slice_seconds(seconds) >= 10
