"""Joining requests into runs never changes an answer, whatever arrives together."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repo_builder.base.errors import MissingExtra
from repo_builder.serve import install


@pytest.fixture(scope="module")
def joined(unavailable: Callable[[str], NoReturn]) -> Iterator[ModuleType]:
    """The module that lies beside the backends, with Triton's own triton_python_backend_utils."""
    try:
        utils = install.find().backends / "python"
    except MissingExtra as missing:
        unavailable(str(missing))
    added = [str(utils), str(install.OURS)]
    sys.path[:0] = added
    module = importlib.import_module("joined_requests")
    # The stub adds its logger to the module; the pure part has none.
    module.pb_utils.Logger = type("Logger", (), {"log_warn": staticmethod(lambda _: None)})
    yield module
    for path in added:
        sys.path.remove(path)


BAD = -1
SHAPES = st.tuples(st.integers(0, 4), st.integers(1, 2))
ARRAYS = SHAPES.flatmap(
    lambda shape: st.lists(
        st.integers(BAD, 9), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    ).map(lambda values: np.array(values, np.int64).reshape(shape))
)
REQUESTS = st.lists(
    st.tuples(ARRAYS, st.lists(st.sampled_from(["double", "sum"]), min_size=1, unique=True)),
    min_size=1,
    max_size=8,
)


def model(feeds: dict[str, Any], wanted: Sequence[str]) -> list[np.ndarray]:
    x = feeds["x"]
    if (x == BAD).any():
        raise ValueError("a bad value")
    outputs = {"double": 2 * x, "sum": x.sum(axis=1)}
    return [outputs[name] for name in wanted]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(REQUESTS, st.integers(0, 6))
def test_each_request_gets_what_it_would_get_alone(
    joined: ModuleType, arrived: list[tuple[np.ndarray, list[str]]], most: int
) -> None:
    runs: list[int] = []

    def run(feeds: dict[str, Any], wanted: Sequence[str]) -> list[np.ndarray]:
        runs.append(len(feeds["x"]))
        return model(feeds, wanted)

    requests = [joined.Request({"x": x}, wanted) for x, wanted in arrived]
    answers = joined.answer(requests, run, most)
    for (x, wanted), answer in zip(arrived, answers, strict=True):
        if (x == BAD).any():
            assert str(answer) == "a bad value"
        else:
            alone = model({"x": x}, wanted)
            assert [a.tolist() for a in answer] == [a.tolist() for a in alone]
    widest = max(len(x) for x, _ in arrived)
    assert max(runs) <= max(most, widest)
    if most == 0:
        assert len(runs) == len(requests)


def test_requests_are_joined_as_far_as_the_limit_allows(joined: ModuleType) -> None:
    runs: list[int] = []

    def run(feeds: dict[str, Any], wanted: Sequence[str]) -> list[np.ndarray]:
        runs.append(len(feeds["x"]))
        return model(feeds, wanted)

    requests = [joined.Request({"x": np.ones((2, 1), np.int64)}, ["sum"]) for _ in range(5)]
    joined.answer(requests, run, 4)
    assert runs == [4, 4, 2]


def test_one_request_is_not_copied(joined: ModuleType) -> None:
    seen: list[np.ndarray] = []

    def run(feeds: dict[str, Any], wanted: Sequence[str]) -> list[np.ndarray]:
        seen.append(feeds["x"])
        return [feeds["x"] for _ in wanted]

    x = np.ones((2, 3))
    [[answer]] = joined.answer([joined.Request({"x": x}, ["double"])], run, 8)
    assert seen[0] is x
    assert answer is x
