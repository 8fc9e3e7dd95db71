"""Counters of energy, as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder.base import energy


def _zone(root: Path, name: str, spent: int, most: int = 1_000_000) -> Path:
    zone = root / name
    zone.mkdir()
    (zone / "energy_uj").write_text(f"{spent}\n")
    (zone / "max_energy_range_uj").write_text(f"{most}\n")
    return zone


def test_packages_are_added_up_and_begin_anew_at_their_range(tmp_path: Path) -> None:
    first, second = _zone(tmp_path, "intel-rapl:0", 100), _zone(tmp_path, "intel-rapl:1", 999_000)
    _zone(tmp_path, "intel-rapl:0:0", 50)  # the cores of the first are in it already
    found = energy.meter(tmp_path)
    assert found is not None
    assert found.joules() == 0
    (first / "energy_uj").write_text("500100\n")
    assert found.joules() == pytest.approx(0.5)
    (second / "energy_uj").write_text("9000\n")
    assert found.joules() == pytest.approx(0.51)


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    assert energy.meter(tmp_path) is None
    assert "no counters of energy" in energy.why_not(tmp_path)


def test_a_counter_that_is_gone_says_what_helps(tmp_path: Path) -> None:
    (_zone(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    assert "make it readable" in energy.why_not(tmp_path)
