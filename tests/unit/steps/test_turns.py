"""Models measured in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repo_builder.steps import _turns


class Spends:
    """A runner whose every run takes so many microjoules from a counter."""

    def __init__(self, counter: Path, microjoules: int) -> None:
        self.counter = counter
        self.microjoules = microjoules

    def run(self, _feed: Any) -> None:
        spent = int(self.counter.read_text()) + self.microjoules
        self.counter.write_text(str(spent))


class Counts:
    """A meter of one counter of microjoules that wants short blocks."""

    block_s = 0.002

    def __init__(self, counter: Path) -> None:
        self.counter = counter

    def joules(self) -> float:
        return int(self.counter.read_text()) / 1e6


def test_energy_is_that_of_one_run_and_fp32_beside_it(tmp_path: Path) -> None:
    counter = tmp_path / "energy_uj"
    counter.write_text("0")
    ours: Any = Spends(counter, 300)
    fp32: Any = Spends(counter, 750)
    found = _turns.spent(ours, fp32, {}, Counts(counter))
    assert found.joules == pytest.approx(300e-6)
    assert found.less == pytest.approx((2.5, 2.5, 2.5))
    assert _turns.spent(ours, None, {}, Counts(counter)).less is None
