from __future__ import annotations

import json

import pytest

from repo_builder.base.errors import UsageError
from repo_builder.base.histogram import Histogram
from repo_builder.tune.rules.types import Candidate, Objective, Observation, Service, Slo


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99<=20ms", Slo(0.99, 20)),
        (" p99.9 <= 0.5 s ", Slo(0.999, 500)),
        ("P50<800us", Slo(0.5, 0.8)),
    ],
)
def test_reads_a_limit_of_latency(text: str, slo: Slo) -> None:
    assert Slo.parse(text) == slo
    assert Slo.parse(str(slo)) == slo


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20ms", "no limit of a latency; write one such as 'p99<=20ms'"),
        ("p99>=20ms", "no limit of a latency"),
        ("p99<=20", "has no unit; write us, ms or s"),
        ("p99<=20min", "has the unit 'min'"),
        ("p100<=20ms", "p100 is not within p50 and p99.99"),
        ("p5<=20ms", "p5 is not within"),
        ("p99<=0ms", "the limit is not within 10us and an hour"),
        ("p99<=9999999s", "the limit is not within"),
    ],
)
def test_says_what_is_wrong_with_a_limit(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Slo.parse(text)


def test_objectives() -> None:
    limit = Slo(0.99, 20)
    assert Objective.of("p99<=20ms", 200) == Objective(limit, 200)
    assert Objective.of("p99<=20ms") == Objective.of("p99<=20ms", None, "throughput")
    assert Objective.of(maximize="throughput") == Objective()
    assert str(Objective(limit, 200)) == "p99<=20ms at 200 requests/s"
    assert str(Objective()) == "the most throughput"


@pytest.mark.parametrize(
    ("slo", "rate", "maximize", "said"),
    [
        ("", None, "", "say what to tune for"),
        ("", 5.0, "", "--rate needs the limit"),
        ("p99<=1ms", 0.0, "", "no rate"),
        ("p99<=1ms", float("nan"), "", "no rate"),
        ("p99<=1ms", 5.0, "throughput", "two objectives"),
        ("", None, "troughput", "did you mean 'throughput'"),
    ],
)
def test_says_what_does_not_fit(slo: str, rate: float | None, maximize: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Objective.of(slo, rate, maximize)


def test_an_observation_reads_what_it_wrote() -> None:
    slices = (Histogram.of([0.1, 0.2]), Histogram.of([0.3]))
    seen = Observation(
        Candidate("onnxruntime", 2, 1, 16, 100, True),
        50.0,
        2.0,
        4,
        1,
        slices,
        Service(2, 3, 0.1, 0.2, {1: (1, 0.05), 2: (1, 0.15)}),
        doubt="others used 40% of the processor",
    )
    assert Observation.of_json(json.loads(json.dumps(seen.as_json()))) == seen
    assert seen.completed == 3
    assert seen.throughput == 1.5


def test_a_candidate_has_a_label_an_order_and_words() -> None:
    plain = Candidate("onnxruntime", 2, 1)
    joined = Candidate("onnxruntime", 2, 1, 16, 100, True)
    assert joined.label == "onnxruntime-2x1-b16-d100-shm"
    assert str(joined) == (
        "ONNX Runtime, 2 instances x 1 thread, batches of up to 16 within 100 us, shared memory"
    )
    assert plain.order < joined.order
    assert Candidate.of_json(joined.as_json()) == joined
    with pytest.raises(ValueError, match="no runtime"):
        Candidate.of_json({**plain.as_json(), "runtime": "cuda"})
