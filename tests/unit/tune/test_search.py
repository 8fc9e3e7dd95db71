"""The search against machines in virtual time, whose laws are others than those that it fits."""

from __future__ import annotations

import math

import pytest
from virtual_server import Machine

from repo_builder.base.histogram import Histogram
from repo_builder.tune.rules.search import Search
from repo_builder.tune.rules.space import Place, candidates
from repo_builder.tune.rules.types import (
    SLICES,
    Candidate,
    Measure,
    Objective,
    Observation,
    Recommendation,
    Slo,
)

CURRENT = Candidate("onnxruntime", 1, 2)
SPACE = candidates(Place(2, ("onnxruntime", "openvino"), 16, shared_memory=True))


def searched(machine: Machine, objective: Objective, seen: list[Observation]) -> Recommendation:
    search = Search(SPACE, objective, cores=2, current=CURRENT)
    while not isinstance(asked := search.next(seen), Recommendation):
        seen.append(machine.measure(asked))
    return asked


def exact_throughput(machine: Machine, one: Candidate) -> float:
    callers = 2 * one.instances * max(1, one.max_batch) + 2
    return machine.measure(Measure(one, None, 6.0, callers), exact=True).throughput


def test_finds_the_most_throughput_in_an_eighth_of_a_sweep_or_16_looks() -> None:
    """Within 10 % of the best, of 12 machines at least 10.

    Within 5 % it is seldomer than it should be: on 24 machines that nothing was set by, 17 times.
    """
    good = 0
    for seed in range(100, 112):
        machine = Machine(seed)
        found = searched(machine, Objective(), [])
        assert found.candidate is not None
        looks = 16 * 2.5  # with what it takes to set one up
        assert found.measured_s <= max(found.sweep_s / 8, looks) + 3  # the look that was going on
        best = max(exact_throughput(machine, one) for one in SPACE)
        good += exact_throughput(machine, found.candidate) >= 0.9 * best
    assert good >= 10


def test_where_all_are_equal_the_current_one_stays() -> None:
    promoted = sum(
        searched(Machine(seed, equal=True, noise=0.04), Objective(), []).outcome == "better"
        for seed in range(60)
    )
    assert promoted <= 6  # at 5 % each, 7 or more have a probability of 3 %


def test_finds_the_least_latency_at_a_rate() -> None:
    machine = Machine(3)
    rate = 0.6 * exact_throughput(machine, CURRENT)
    found = searched(machine, Objective(Slo(0.95, machine.base * 1e4), rate), [])
    assert found.unit == "ms"
    assert found.outcome == "better"
    assert any("is kept" in line for line in found.evidence)


@pytest.mark.parametrize("rate", [None, 30.0])
def test_a_limit_that_cannot_be_kept_is_told_with_the_best_there_is(rate: float | None) -> None:
    machine = Machine(1)
    found = searched(machine, Objective(Slo(0.95, machine.base * 100), rate), [])
    assert found.outcome == "unmet"
    assert found.candidate is not None
    assert any("is not kept" in line for line in found.evidence)


def test_a_search_that_was_killed_asks_for_the_same_next() -> None:
    machine, seen, asked = Machine(2), [], []
    search = Search(SPACE, Objective(), cores=2, current=CURRENT)
    while not isinstance(one := search.next(seen), Recommendation):
        asked.append(one)
        seen.append(machine.measure(one))
    for count in range(0, len(seen), 3):
        again = Search(SPACE, Objective(), cores=2, current=CURRENT)
        assert again.next(seen[:count]) == asked[count]
    assert Search(SPACE, Objective(), cores=2, current=CURRENT).next(seen) == one


def test_what_cannot_be_served_is_left_out_and_told() -> None:
    refused = frozenset(one.label for one in SPACE if one.runtime == "openvino")
    found = searched(Machine(3, refused=refused), Objective(), [])
    assert found.candidate is not None
    assert found.candidate.runtime == "onnxruntime"
    assert any("cannot be served: it does not load" in line for line in found.evidence)


def test_where_nothing_can_be_served_nothing_is_recommended() -> None:
    refused = frozenset(one.label for one in (*SPACE, CURRENT))
    found = searched(Machine(3, refused=refused), Objective(), [])
    assert found.outcome == "unserved"
    assert found.candidate is None


def test_a_client_that_is_the_limit_is_told() -> None:
    seen = [
        Observation(CURRENT, 500.0, 2.0, 1000, 0, (Histogram.of([0.01] * 100),) * SLICES, late=200)
    ]
    search = Search(
        [CURRENT], Objective(Slo(0.95, 20), 500.0), cores=2, current=CURRENT, budget_s=1
    )
    found = search.next(seen)
    assert isinstance(found, Recommendation)
    assert any("from 500 requests/s on the client is late" in line for line in found.evidence)
    assert math.isclose(found.measured_s, 2.0)
