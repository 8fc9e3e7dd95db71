"""Models measured in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repo_builder.base.energy import Meter
from repo_builder.steps import _turns


class Spends:
    """A runner whose every run takes so many microjoules from a counter."""

    def __init__(self, counter: Path, microjoules: int) -> None:
        self.counter = counter
        self.microjoules = microjoules

    def run(self, _feed: Any) -> None:
        spent = int(self.counter.read_text()) + self.microjoules
        self.counter.write_text(str(spent))


def test_energy_is_that_of_one_run_and_fp32_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_turns, "ENERGY_BLOCK_S", 0.002)
    counter = tmp_path / "energy_uj"
    counter.write_text("0")
    ours: Any = Spends(counter, 300)
    fp32: Any = Spends(counter, 750)
    found = _turns.energy(ours, fp32, {}, Meter([tmp_path]))
    assert found.joules == pytest.approx(300e-6)
    assert found.less == pytest.approx((2.5, 2.5, 2.5))
    assert _turns.energy(ours, None, {}, Meter([tmp_path])).less is None
