"""A candidate's config, and which candidate a config is."""

from __future__ import annotations

from typing import Any

import pytest

from repo_builder.base.errors import ServeError
from repo_builder.spec.candidate import Candidate
from repo_builder.tune.configured import configured, current, runtime_of


def config(**fields: Any) -> dict[str, Any]:
    return {
        "name": "net",
        "backend": "onnxruntime",
        "max_batch_size": 16,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3"]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 2}],
        "parameters": {"intra_op_thread_count": {"string_value": "3"}},
        "model_warmup": [
            {"name": f"batch of {n}", "batch_size": n, "inputs": {"x": {"dims": ["3"]}}}
            for n in (1, 16)
        ],
        **fields,
    }


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("onnxruntime", 1, 2),
        Candidate("onnxruntime", 2, 1, 4, 500),
        Candidate("onnxruntime", 2, 1, 16, 0),
        Candidate("openvino", 4, 2),
    ],
    ids=lambda one: one.label,
)
def test_a_config_of_a_candidate_is_read_as_that_candidate(candidate: Candidate) -> None:
    given = config(backend=candidate.runtime)
    assert current(configured(given, candidate), cores=8) == candidate


def test_what_is_not_tuned_stays_and_the_given_config_is_not_changed() -> None:
    given = config(dynamic_batching={"default_queue_policy": {"max_queue_size": 3}})
    before = repr(given)
    made = configured(given, Candidate("onnxruntime", 1, 1, 8, 100), "net.trial")
    assert repr(given) == before
    assert made["name"] == "net.trial"
    assert made["input"] == given["input"]
    assert made["dynamic_batching"] == {
        "default_queue_policy": {"max_queue_size": 3},
        "max_queue_delay_microseconds": 100,
    }
    assert "dynamic_batching" not in configured(given, Candidate("onnxruntime", 1, 1))


def test_warm_ups_are_of_the_batches_that_are_possible() -> None:
    """A warm-up of more rows than the config allows makes Triton refuse the model."""
    made = configured(config(), Candidate("onnxruntime", 1, 1, 4, 0))
    assert made["max_batch_size"] == 4
    assert [(one["name"], one["batch_size"]) for one in made["model_warmup"]] == [
        ("batch of 1", 1),
        ("batch of 4", 4),
    ]
    whole = configured(config(), Candidate("onnxruntime", 1, 1))
    assert [one["batch_size"] for one in whole["model_warmup"]] == [1, 16]
    assert "model_warmup" not in configured(config(model_warmup=[]), Candidate("onnxruntime", 1, 1))


def test_without_a_count_of_threads_an_instance_has_all_cores() -> None:
    assert current(config(parameters={}), cores=6) == Candidate("onnxruntime", 2, 6)
    assert current(config(backend="openvino", parameters={}), cores=6).threads == 6


def test_another_runtime_is_refused_by_name() -> None:
    with pytest.raises(ServeError, match="'net' is served by tensorrt; only models of onnxruntime"):
        runtime_of(config(backend="tensorrt"))
    with pytest.raises(ServeError, match="'net' is served by ensemble"):
        runtime_of(config(backend="", platform="ensemble"))
