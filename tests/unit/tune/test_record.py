"""What was measured outlives the process that measured it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from repo_builder.base.histogram import Histogram
from repo_builder.run.store import Store
from repo_builder.spec.candidate import Candidate
from repo_builder.tune.record import Record
from repo_builder.tune.rules.types import Observation, Service

SEEN = Observation(
    candidate=Candidate("onnxruntime", 2, 1, 4, 500),
    rate=100.0,
    seconds=2.0,
    sent=201,
    failed=1,
    slices=(Histogram.of([0.001, 0.002]), Histogram.of([0.1])),
    service=Service(150, 200, 0.1, 0.4, {1: (100, 0.2), 2: (50, 0.2)}),
    cpu_s=0.5,
)


def test_observations_come_back_in_their_order(tmp_path: Path) -> None:
    record = Record(Store(tmp_path), {"model": "a"})
    others = [replace(SEEN, rate=float(rate)) for rate in range(1, 12)]
    for one in others:
        record.add(one)
    assert Record(Store(tmp_path), {"model": "a"}).read() == others


def test_another_model_or_machine_has_none_of_them(tmp_path: Path) -> None:
    Record(Store(tmp_path), {"model": "a", "machine": {"cores": 2}}).add(SEEN)
    assert Record(Store(tmp_path), {"model": "b", "machine": {"cores": 2}}).read() == []
    assert Record(Store(tmp_path), {"model": "a", "machine": {"cores": 4}}).read() == []


def test_what_is_damaged_or_in_doubt_is_measured_again(tmp_path: Path) -> None:
    record = Record(Store(tmp_path), {"model": "a"})
    for one in (SEEN, replace(SEEN, doubt="others used 80% of the processor"), SEEN, SEEN):
        record.add(one)
    first, *_, last = sorted((tmp_path / "tunings" / record.key).glob("*.json"))
    first.write_bytes(first.read_bytes()[:-9])
    last.write_text("{}")
    assert record.read() == [SEEN]
    record.add(SEEN)
    assert record.read() == [SEEN, SEEN]


def test_forgotten_is_forgotten(tmp_path: Path) -> None:
    record = Record(Store(tmp_path), {"model": "a"})
    record.add(SEEN)
    record.forget()
    assert record.read() == []
