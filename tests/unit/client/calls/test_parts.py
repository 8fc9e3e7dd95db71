"""More rows than a model takes at once: cut, asked within one deadline, and joined in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from client_simulator import GONE, Server, World, rows
from hypothesis import given
from hypothesis import strategies as st

from repo_builder.client.calls.parts import in_parts
from repo_builder.client.errors import DeadlineExceeded, InvalidInput, ServerFailed
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Tensor
from repo_builder.client.options import Cache


def sizes(server: Server) -> list[int]:
    return [request.inputs[0].shape[0] for request in server.seen]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.data())
def test_every_row_gets_its_own_answer_wherever_it_travels(
    count: int, edge_rows: int, cloud_rows: int, data: st.DataObject
) -> None:
    unsure = tuple(sorted(data.draw(st.sets(st.integers(0, count - 1)))))
    edge, cloud = Server(max_rows=edge_rows), Server(who=1.0, max_rows=cloud_rows)
    result = World({"e": edge}, {"c": cloud}).infer(rows(count, unsure=unsure), timeout=60.0)
    assert result["id"].ravel().tolist() == list(range(count))
    assert np.flatnonzero(result["who"]).tolist() == list(unsure)
    assert result.batch == count == len(result.sources) == len(result.confidence)
    full, rest = divmod(count, edge_rows)
    assert sizes(edge) == [edge_rows] * full + [rest] * bool(rest)
    assert sum(sizes(cloud)) == len(unsure)
    assert max(sizes(cloud), default=0) <= cloud_rows


def test_a_cloud_that_stands_in_for_the_edge_gets_parts_of_its_own_size() -> None:
    cloud = Server(who=1.0, max_rows=10)
    world = World({"e": Server(fault=lambda _now, _method: (0.001, GONE))}, {"c": cloud})
    result = world.infer(rows(25))
    assert sizes(cloud) == [10, 10, 5]
    assert result["id"].ravel().tolist() == list(range(25))
    assert set(result.sources) == {"cloud"}


def test_the_deadline_is_that_of_all_parts() -> None:
    world = World({"e": Server(latency=0.4, max_rows=8)})
    begun = world.now
    with pytest.raises(DeadlineExceeded):
        world.infer(rows(32), timeout=1.0)
    assert world.now - begun == pytest.approx(1.0)


def test_a_model_that_is_replaced_meanwhile_answers_no_part_of_another() -> None:
    edge = Server(max_rows=8)

    def replaced(_now: float, method: str) -> None:
        if method == "ModelInfer" and len(edge.seen) == 1:
            edge.version, edge.who = "2000000", 7.0

    edge.fault = replaced
    result = World({"e": edge}).infer(rows(20))
    assert set(result["who"].ravel()) == {7.0}
    assert result["id"].ravel().tolist() == list(range(20))
    assert result.version == "2.0.0"
    assert sizes(edge) == [8, 8, 4, 8]
    assert edge.seen[-1].model_version == "2000000"


def test_only_rows_that_no_cache_has_travel(tmp_path: Any) -> None:
    edge = Server(max_rows=4)
    world = World({"e": edge}, cache=Cache(tmp_path / "cache.db"))
    world.infer(rows(6))
    assert world.core.cache is not None
    world.core.cache.flush()
    edge.seen.clear()
    result = world.infer(rows(12))
    assert sizes(edge) == [4, 2]
    assert result.sources == ["cache"] * 6 + ["edge"] * 6
    assert result["id"].ravel().tolist() == list(range(12))


def test_a_sequence_is_not_cut() -> None:
    world = World({"e": Server(stateful=True, max_rows=8)})
    with pytest.raises(InvalidInput, match="9 rows given, it takes 1 to 8 at once; a model that"):
        world.infer(rows(9))


def test_parts_that_differ_in_shape_are_not_joined() -> None:
    """Such as boxes, of which every answer has as many as the row with the most."""
    model = Model("boxes", (Tensor("x", "FP32", (4,)),), (Tensor("y", "FP32", (-1,)),), 2)
    answers = iter([{"y": np.zeros((2, 5))}, {"y": np.zeros((1, 6))}])

    def ask(_part: Any, _version: str) -> Any:
        return next(answers), "1"
        yield  # a generator that never waits

    with pytest.raises(ServerFailed, match="'y' is \\[5\\] a row in the first.*at most 2 rows"):
        next(in_parts(model, model.batch(rows(3)), "", ask))
