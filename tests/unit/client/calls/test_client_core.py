"""The whole call, against simulated servers: deadlines, repeats, fallback, merging."""

from __future__ import annotations

import json

import numpy as np
import pytest
from client_simulator import BROKEN, BUSY, GONE, POLICY, Server, World, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder.client.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Overloaded,
    ServerFailed,
    Unavailable,
)
from repo_builder.client.options import Breaker, Fallback, Retry
from repo_builder.client.rules.failure import Failure


def always(failure: Failure, seconds: float = 0.001):
    return lambda _now, _method: (seconds, failure)


def until(end: float, failure: Failure, seconds: float = 0.001):
    return lambda now, _method: (seconds, failure) if now < end else None


def test_only_unsure_rows_travel_and_answers_come_back_in_order():
    cloud = Server(who=1.0)
    world = World({"e": Server()}, {"c": cloud})
    result = world.infer(rows(64, unsure=(3, 9, 20, 33, 50, 63)))
    assert [request.inputs[0].shape[0] for request in cloud.seen] == [6]
    assert result["id"].ravel().tolist() == list(range(64))
    assert np.flatnonzero(result["who"]).tolist() == [3, 9, 20, 33, 50, 63]
    assert [i for i, s in enumerate(result.sources) if s == "cloud"] == [3, 9, 20, 33, 50, 63]
    assert result.source == "mixed"
    assert result.confidence[3] < 0.85 < result.confidence[4]


def test_one_sample_goes_in_and_comes_out_without_a_batch_axis():
    world = World({"e": Server()}, {"c": Server(who=1.0)})
    result = world.infer(rows(1)[0])
    assert result["logits"].shape == (3,)
    assert result.batch is None
    assert result.source == "edge"
    assert isinstance(result.confidence, float)
    assert world.infer(rows(1, unsure=(0,))[0]).source == "cloud"


def test_without_a_cloud_nothing_is_unverified_and_confidence_is_there_on_demand():
    world = World({"e": Server()})
    result = world.infer(rows(2, unsure=(1,)))
    assert result.source == "edge"
    assert result.confidence[1] < 0.85


@pytest.mark.parametrize("fault", [GONE, BROKEN, BUSY, Failure("DEADLINE_EXCEEDED", "late")])
def test_cloud_away_means_the_edge_answers_marked_and_in_time(fault):
    world = World({"e": Server()}, {"c": Server(fault=always(fault))})
    start = world.now
    result = world.infer(rows(4, unsure=(2,)))
    assert result.sources == ["edge", "edge", "edge-unverified", "edge"]
    assert fault.details in result.why_unverified
    assert world.now - start <= 1.0


def test_a_slow_cloud_is_given_up_before_the_deadline():
    cloud = Server(who=1.0)
    world = World({"e": Server()}, {"c": cloud})
    world.infer(rows(1, unsure=(0,)))
    cloud.latency = 5.0
    start = world.now
    assert world.infer(rows(1, unsure=(0,)), timeout=0.3).source == "edge-unverified"
    assert world.now - start <= 0.3


@pytest.mark.parametrize("fault", [GONE, BROKEN, BUSY, Failure("INTERNAL", "it broke")])
def test_edge_away_means_the_cloud_answers(fault):
    world = World({"e": Server(fault=always(fault))}, {"c": Server(who=1.0)})
    result = world.infer(rows(3))
    assert result.sources == ["cloud"] * 3
    assert result.cloud_version == "1.0.0"
    assert result.version == ""


@pytest.mark.parametrize("version", ["", "1.0.0"])
def test_edge_away_means_the_model_that_it_named_answers(version):
    edge = Server(policy={**POLICY, "cloud_model": "large"})
    world = World({"e": edge}, {"c": Server(who=1.0, models=("large",))})
    world.infer(rows(1), version=version)
    edge.fault = always(GONE)
    result = world.infer(rows(2), version=version)
    assert (result.source, result["who"].tolist()) == ("cloud", [[1.0], [1.0]])


def test_what_the_edge_named_is_remembered_and_a_damaged_memory_is_not_missed(tmp_path):
    memory = tmp_path / "memory.json"
    for damage in ("[]", "{", '{"echo": 3}'):
        memory.write_text(damage)
        edge = Server(policy={**POLICY, "cloud_model": "large"})
        cloud = {"c": Server(who=1.0, models=("large", "larger"))}
        World({"e": edge}, cloud, fallback=Fallback(memory=memory)).infer(rows(1))
        gone = {"e": Server(fault=always(GONE))}
        assert World(gone, cloud, fallback=Fallback(memory=memory)).infer(rows(1)).source == "cloud"
    edge.policy["cloud_model"] = "larger"
    World({"e": edge}, cloud, fallback=Fallback(memory=memory)).infer(rows(1))
    assert json.loads(memory.read_text()) == {"echo": "larger"}


def test_a_memory_that_cannot_be_written_costs_no_call(tmp_path, caplog):
    edge = Server(policy={**POLICY, "cloud_model": "large"})
    nowhere = Fallback(memory=tmp_path / "no" / "folder.json")
    world = World({"e": edge}, {"c": Server()}, fallback=nowhere)
    for _ in range(3):
        assert world.infer(rows(1)).source == "edge"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_stalled_edge_leaves_the_cloud_its_share_of_the_deadline():
    edge = Server()
    world = World({"e": edge}, {"c": Server(who=1.0)})
    world.infer(rows(1))
    edge.latency = 60.0
    start = world.now
    assert world.infer(rows(1), timeout=1.0).source == "cloud"
    assert world.now - start < 0.6


def test_both_away_is_one_error_that_names_both():
    world = World({"e": Server(fault=always(GONE))}, {"c": Server(fault=always(BROKEN))})
    start = world.now
    with pytest.raises(Unavailable, match=r"edge \(e\).*failed to connect.*cloud \(c\).*reset"):
        world.infer(rows(1))
    assert world.now - start <= 1.0 + 1e-6


def test_a_restart_within_the_deadline_loses_no_call():
    for fault in (GONE, BROKEN, BUSY):
        world = World({"e": Server(fault=until(1003.0, fault))})
        assert world.infer(rows(1), timeout=10.0).source == "edge"
        assert 1003.0 < world.now < 1006.0


def test_a_model_that_is_reloaded_is_waited_for_but_an_unknown_one_is_not():
    absent = Failure("UNAVAILABLE", "Request for unknown model: 'echo' has no available versions")
    server = Server()
    world = World({"e": server})
    world.infer(rows(1))
    server.fault = until(world.now + 2.0, absent)
    assert world.infer(rows(1), timeout=5.0).source == "edge"
    start = world.now
    with pytest.raises(ModelNotFound, match="'ehco' is not found; it has 'echo'"):
        world.infer(rows(1), model="ehco", timeout=5.0)
    assert world.now - start < 0.1


def test_a_new_version_brings_its_own_threshold():
    server = Server()
    cloud = Server(who=1.0)
    world = World({"e": server}, {"c": cloud})
    assert world.infer(rows(1)).source == "edge"
    server.version, server.policy = "2000000", {**server.policy, "threshold": 0.9999999}
    result = world.infer(rows(1))
    assert (result.source, result.version) == ("cloud", "2.0.0")


def test_requests_that_change_state_are_never_sent_twice():
    server = Server(stateful=True)
    world = World({"e": server})
    world.infer(rows(1))
    before = len(world.sent)
    server.fault = always(BROKEN)
    with pytest.raises(Unavailable):
        world.infer(rows(1))
    assert len(world.sent) == before + 1


def test_the_retry_budget_bounds_repeats_of_all_calls_together():
    server = Server(fault=always(BUSY))
    world = World({"e": server}, {"c": Server(who=1.0)}, retry=Retry(budget=0.1, attempts=3))
    start, calls = world.now, 400
    for _ in range(calls):
        world.infer(rows(1))
    asked = sum(send.endpoint.address == "e" for send in world.sent)
    # 10 % of the calls, the reserve (as many as may run at once), one a second.
    assert asked <= calls * 1.1 + 64 + (world.now - start) + 1


def test_an_open_breaker_spares_the_server():
    server = Server(fault=always(GONE))
    world = World({"e": server}, {"c": Server(who=1.0)}, breaker=Breaker(failures=3))
    for _ in range(50):
        assert world.infer(rows(1)).source == "cloud"
    assert sum(send.endpoint.address == "e" for send in world.sent) < 10
    server.fault = lambda _now, _method: None
    world.now += 3.0
    assert world.infer(rows(1)).source == "edge"
    assert world.core.edge.endpoints[0].breaker.state == "closed"


def test_another_server_of_the_side_takes_over():
    world = World({"a": Server(fault=always(GONE)), "b": Server()})
    for _ in range(20):
        assert world.infer(rows(1)).source == "edge"
    assert sum(send.endpoint.address == "a" for send in world.sent) <= 6


def test_the_quicker_server_is_asked_more():
    world = World({"a": Server(latency=0.05), "b": Server(latency=0.002)}, retry=Retry(hedge=False))
    for _ in range(50):
        world.infer(rows(1))
    assert sum(send.endpoint.address == "b" for send in world.sent) > 45


def test_a_slow_call_is_hedged_after_the_p95():
    a, b = Server(latency=0.01), Server(latency=0.01)
    world = World({"a": a, "b": b})
    for _ in range(100):
        world.infer(rows(1))
    a.latency = b.latency = 0.01
    slow = iter([(0.9, BROKEN)])

    def stuck(_now: float, _method: str):
        return next(slow, None)

    a.fault = b.fault = stuck
    start = world.now
    assert world.infer(rows(1)).source == "edge"
    assert world.now - start < 0.05
    hedges = world.core.metrics.snapshot()['hedges_total{side="edge"}']
    assert hedges == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((1, 4)), "FP32 .float32., an array of float64"),
        (np.zeros((1, 5), "f4"), r"shape \[rows, 4\], \[1, 5\] was given"),
        (np.zeros((0, 4), "f4"), "0 rows given, it takes 1 or more"),
        ({"y": np.zeros((1, 4), "f4")}, "no input 'y'; its inputs are 'x'"),
        ({}, "input 'x' is missing"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides_named(given, says):
    world = World({"e": Server()})
    with pytest.raises(InvalidInput, match=says):
        world.infer(given)
    assert not world.servers["e"].seen


def test_a_server_that_fails_on_the_request_is_not_asked_again():
    world = World({"e": Server()})
    world.infer(rows(1))
    world.servers["e"].fault = always(Failure("INTERNAL", "boom"))
    before = len(world.sent)
    with pytest.raises(ServerFailed, match="boom"):
        world.infer(rows(1))
    assert len(world.sent) == before + 1


def test_limits_let_the_least_sure_rows_through_first():
    x = rows(6, unsure=(1, 3, 5))
    x[3, 0] = 0.05
    cloud = Server(who=1.0)
    for fallback in (
        Fallback(rows_per_second=1.0),
        Fallback(bytes_per_hour=16.0),
        Fallback(cost_per_row=0.5, cost_per_hour=0.9),
    ):
        world = World({"e": Server()}, {"c": cloud}, fallback=fallback)
        result = world.infer(x)
        assert [i for i, s in enumerate(result.sources) if s == "cloud"] == [3]
        assert "limit" in result.why_unverified
        assert result["id"].ravel().tolist() == list(range(6))


def test_what_must_not_leave_the_device_does_not():
    cloud = Server(who=1.0)
    world = World({"e": Server()}, {"c": cloud}, fallback=Fallback(never_send=frozenset({"x"})))
    result = world.infer(rows(1, unsure=(0,)))
    assert result.source == "edge-unverified"
    assert "never leave" in result.why_unverified
    assert not cloud.seen


def test_the_edge_being_down_does_not_open_what_must_not_leave_the_device():
    cloud = Server(who=1.0)
    world = World(
        {"e": Server(fault=always(GONE))},
        {"c": cloud},
        fallback=Fallback(never_send=frozenset({"x"})),
    )
    with pytest.raises(Unavailable, match="never leave"):
        world.infer(rows(1))
    assert not cloud.seen


def test_a_cloud_model_of_another_shape_is_not_merged():
    cloud = Server(who=1.0, models=("other",))
    world = World({"e": Server()}, {"c": cloud}, fallback=Fallback(models={"echo": "other"}))
    assert world.infer(rows(1, unsure=(0,))).source == "cloud"
    cloud.max_rows = 0
    world = World({"e": Server()}, {"c": cloud}, fallback=Fallback(models={"echo": "other"}))
    result = world.infer(rows(2, unsure=(0, 1)))
    assert result.source == "edge-unverified"
    assert "other" in result.why_unverified


def test_a_cloud_that_takes_fewer_rows_gets_them_in_parts():
    cloud = Server(who=1.0, max_rows=4)
    world = World({"e": Server()}, {"c": cloud})
    result = world.infer(rows(20, unsure=tuple(range(0, 20, 2))))
    assert [request.inputs[0].shape[0] for request in cloud.seen] == [4, 4, 2]
    assert result["id"].ravel().tolist() == list(range(20))
    assert result["who"].ravel().tolist() == [1.0, 0.0] * 10


def test_an_own_score_replaces_the_models_policy():
    fallback = Fallback(score=lambda outputs: outputs["id"][:, 0], threshold=2.5)
    world = World({"e": Server(policy=None)}, {"c": Server(who=1.0)}, fallback=fallback)
    assert world.infer(rows(4)).sources == ["cloud", "cloud", "cloud", "edge"]


def test_a_call_that_is_cancelled_hands_back_what_it_held():
    world = World({"e": Server()})
    world.infer(rows(1))
    effects = world.core.infer("echo", rows(1), 1.0, "")
    next(effects)
    assert world.core.edge.endpoints[0].inflight == 1
    effects.close()
    assert world.core.edge.endpoints[0].inflight == 0
    assert world.core.bulkhead.try_acquire()


FAULTS = st.sampled_from([None, GONE, BROKEN, BUSY, Failure("INTERNAL", "x")])


@settings(max_examples=150, deadline=None)
@given(
    edge=st.lists(st.tuples(FAULTS, st.floats(0.0, 2.0)), min_size=1, max_size=8),
    cloud=st.lists(st.tuples(FAULTS, st.floats(0.0, 2.0)), min_size=1, max_size=8),
    timeout=st.floats(0.05, 3.0),
    unsure=st.sets(st.integers(0, 15)),
)
def test_whatever_the_servers_do_a_call_ends_in_time_and_rows_stay_in_place(
    edge, cloud, timeout, unsure
):
    def scripted(events):
        script = iter(events)

        def fault(_now, _method):
            failure, seconds = next(script, (None, 0.001))
            return None if failure is None else (seconds, failure)

        return fault

    world = World(
        {"e": Server(fault=scripted(edge))}, {"c": Server(who=1.0, fault=scripted(cloud))}
    )
    start = world.now
    try:
        result = world.infer(rows(16, unsure=tuple(unsure)), timeout=timeout)
    except (Unavailable, DeadlineExceeded, Overloaded, ServerFailed):
        pass
    else:
        assert result["id"].ravel().tolist() == list(range(16))
        cloudy = [source == "cloud" for source in result.sources]
        assert result["who"].ravel().tolist() == [float(one) for one in cloudy]
        if result.source != "cloud":
            assert all(i in unsure for i, s in enumerate(result.sources) if s != "edge")
    assert world.now - start <= timeout + 0.001
    assert all(e.inflight == 0 for e in world.core.edge.endpoints + world.core.cloud.endpoints)
