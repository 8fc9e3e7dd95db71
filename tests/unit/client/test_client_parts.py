"""The parts of the client on their own: guards, wire, metrics, options, imports."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from repo_builder.client.errors import InvalidInput, ServerFailed
from repo_builder.client.metrics import Metrics
from repo_builder.client.models.model import Model, version_name, version_number
from repo_builder.client.options import Breaker, Fallback, Servers, Tls
from repo_builder.client.rules.breaker import CircuitBreaker
from repo_builder.client.rules.bulkhead import Gate
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.retry_budget import RetryBudget, backoff
from repo_builder.client.rules.token_bucket import Allowance
from repo_builder.client.transport import wire


def test_a_breaker_opens_probes_and_closes():
    breaker = CircuitBreaker(Breaker(failures=3, cooldown=1.0, max_cooldown=4.0))
    for _ in range(2):
        breaker.failed(0.0)
    assert breaker.enter(0.0)
    breaker.failed(0.0)
    assert (breaker.state, breaker.enter(0.5)) == ("open", False)
    assert breaker.ready_at(0.5) <= 1.0
    assert breaker.enter(1.0), "one probe"
    assert not breaker.enter(1.0), "and no second"
    breaker.failed(1.1)
    assert not breaker.enter(2.0), "twice the wait"
    assert breaker.enter(3.2)
    breaker.succeeded()
    assert (breaker.state, breaker.enter(3.2), breaker.enter(3.2)) == ("closed", True, True)


def test_a_probe_that_is_cancelled_frees_its_place():
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=1.0))
    breaker.failed(0.0)
    assert breaker.enter(2.0)
    breaker.abandoned()
    assert breaker.enter(2.0)


def test_a_connection_that_is_back_lets_one_probe_through_at_once():
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=1.0))
    breaker.failed(0.0)
    assert not breaker.enter(0.1)
    breaker.reachable()
    assert breaker.enter(0.1), "the probe"
    assert not breaker.enter(0.1), "and no second"
    breaker.failed(0.2)
    assert not breaker.enter(0.3)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_an_open_breaker_always_opens_up_again(events):
    breaker = CircuitBreaker(Breaker(failures=2, cooldown=0.5, max_cooldown=2.0))
    now = 0.0
    for good, wait in events:
        now += wait
        if breaker.enter(now):
            breaker.succeeded() if good else breaker.failed(now)
        assert breaker.ready_at(now) <= now + 2.0
    assert breaker.enter(now + 2.0)


@given(calls=st.lists(st.integers(0, 5), max_size=300), share=st.floats(0.0, 0.5))
@settings(max_examples=100, deadline=None)
def test_repeats_never_exceed_share_reserve_and_trickle(calls, share):
    budget = RetryBudget(share, reserve=5.0)
    taken = 0
    for number, wanted in enumerate(calls):
        budget.called()
        taken += sum(budget.take(number * 0.1) for _ in range(wanted))
    assert taken <= 5 + share * len(calls) + 0.1 * len(calls) + 1


def test_backoff_is_jittered_and_bounded():
    assert backoff(1, 0.02, 0.5, 0.5) == pytest.approx(0.01)
    assert backoff(3, 0.02, 0.5, 0.999) == pytest.approx(0.08, rel=0.01)
    assert backoff(1000, 0.02, 0.5, 0.999) <= 0.5


def test_an_allowance_fills_with_time_and_is_capped():
    allowance = Allowance(rate=2.0, burst=4.0)
    allowance.take(4.0, 0.0)
    assert allowance.available(1.0) == pytest.approx(2.0)
    assert allowance.available(100.0) == 4.0
    assert allowance.available(50.0) == 4.0, "a clock that went back takes nothing away"


def test_a_gate_is_first_come_first_served_and_loses_no_place():
    gate = Gate(concurrency=2, queue=2)
    assert (gate.enter(), gate.enter(), gate.enter()) == (True, True, False)
    order: list[str] = []
    first, second = (lambda: order.append("first")), (lambda: order.append("second"))
    assert gate.wait(first)
    assert gate.wait(second)
    assert not gate.wait(lambda: None), "the queue is full"
    gate.leave()
    assert order == ["first"]
    gate.give_up(second)
    gate.leave()
    gate.leave()
    assert (gate.enter(), gate.enter(), gate.enter()) == (True, True, False)


def test_a_gate_under_many_threads_never_lets_too_many_in():
    gate, inside, most = Gate(3, 1000), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(100):
            if not gate.enter():
                event = threading.Event()
                assert gate.wait(event.set)
                assert event.wait(10)
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            gate.leave()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
    assert (gate.enter(), gate.enter(), gate.enter(), gate.enter()) == (True, True, True, False)


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", "unreachable"),
        ("UNAVAILABLE", "DNS resolution failed for x", "unreachable"),
        ("UNAVAILABLE", "Socket closed", "broken"),
        ("UNAVAILABLE", "Request for unknown model: 'm' has no available versions", "absent"),
        ("UNAVAILABLE", "Exceeds maximum queue size", "busy"),
        ("UNKNOWN", "Stream removed", "broken"),
        ("INTERNAL", "RST_STREAM", "broken"),
        ("INTERNAL", "it broke", "failed"),
        ("NOT_FOUND", "x", "absent"),
        ("INVALID_ARGUMENT", "x", "rejected"),
        ("DEADLINE_EXCEEDED", "x", "late"),
    ],
)
def test_failures_are_told_apart(status, details, kind):
    assert Failure(status, details).kind == kind


def model(max_rows: int = 8, **inputs: Any) -> Model:
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=max_rows)
    for name, (datatype, dims) in (inputs or {"x": ("TYPE_FP32", [2])}).items():
        config.input.add(name=name, data_type=datatype, dims=dims)
    config.output.add(name="y", data_type="TYPE_FP32", dims=[-1] if max_rows else [-1, 2])
    return Model.of_config(config)


TYPES = {
    "TYPE_BOOL": np.bool_,
    "TYPE_INT8": np.int8,
    "TYPE_UINT16": np.uint16,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": object,
    "TYPE_BF16": np.float32,
}


@pytest.mark.parametrize("datatype", TYPES)
def test_the_bytes_are_those_that_tritonclient_sends(datatype):
    import tritonclient.grpc as tritonclient
    from tritonclient.grpc._utils import _get_inference_request

    rng = np.random.default_rng(0)
    x = (rng.random((3, 5)) * 100).astype(TYPES[datatype])
    if datatype == "TYPE_STRING":
        x = np.array([[b"a", b"", b"long" * 50]] * 3, dtype=object)
    one = model(8, x=(datatype, [-1]))
    batch = one.batch(x)
    ours = service_pb2.ModelInferRequest.FromString(wire.request("m", "3", batch, 1.5))
    assert ours.parameters["timeout"].int64_param == 1_500_000
    del ours.parameters["timeout"]
    theirs = tritonclient.InferInput("x", x.shape, one.inputs[0].datatype)
    theirs.set_data_from_numpy(x)
    expected = _get_inference_request("m", [theirs], "3", "", None, 0, False, False, 0, None, None)
    assert ours == expected


@given(size=st.integers(0, 70_000), timeout=st.floats(0.0, 1e6))
@settings(max_examples=60, deadline=None)
def test_any_size_and_deadline_parse(size, timeout):
    one = model(8, x=("TYPE_UINT8", [-1]))
    x = np.arange(size, dtype=np.uint8)[None]
    body = wire.request("m", "", one.batch(x), timeout)
    parsed = service_pb2.ModelInferRequest.FromString(body)
    assert parsed.raw_input_contents[0] == x.tobytes()
    assert abs(parsed.parameters["timeout"].int64_param - timeout * 1e6) <= 1000


def test_arrays_that_are_not_contiguous_arrive_as_they_look():
    one = model(8, x=("TYPE_FP32", [2, 3]))
    base = np.arange(48, dtype=np.float32).reshape(4, 2, 6)
    for _ in range(2):
        batch = one.batch(base[:, :, ::2])
        sent = service_pb2.ModelInferRequest.FromString(wire.request("m", "", batch, 1.0))
        assert sent.raw_input_contents[0] == base[:, :, ::2].tobytes()


def test_several_inputs_by_name_with_one_optional():
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=4)
    config.input.add(name="a", data_type="TYPE_FP32", dims=[2])
    config.input.add(name="b", data_type="TYPE_INT32", dims=[1], optional=True)
    config.output.add(name="y", data_type="TYPE_FP32", dims=[2])
    one = Model.of_config(config)
    a, b = np.zeros((3, 2), np.float32), np.zeros((3, 1), np.int32)
    assert [t.name for t in one.batch({"a": a, "b": b}).signature.tensors] == ["a", "b"]
    assert one.batch(a).count == 3
    assert one.batch({"a": a[0], "b": b[0]}).signature.single
    with pytest.raises(InvalidInput, match="'a' has 3 rows, 'b' has shape"):
        one.batch({"a": a, "b": b[:2]})
    with pytest.raises(InvalidInput, match="'a' has 3 rows, 'b' has shape"):
        one.batch({"a": a, "b": b[0]})


def test_a_batch_axis_in_the_dims_is_seen():
    one = model(0, x=("TYPE_FP32", [-1, 2]))
    assert one.batch(np.zeros((7, 2), np.float32)).count == 7
    assert one.batch(np.zeros(2, np.float32)).signature.single


def test_config_parameters_that_cannot_be_read_are_named():
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=4)
    config.input.add(name="x", data_type="TYPE_FP32", dims=[2])
    config.output.add(name="y", data_type="TYPE_FP32", dims=[2])
    for text, says in (
        ("{", "cannot be read"),
        (json.dumps({"policy": "best", "output": "y"}), "best"),
        (json.dumps({"policy": "margin", "output": "z"}), "'z', which is not one of its outputs"),
    ):
        config.parameters["repo_builder.confidence"].string_value = text
        with pytest.raises(ServerFailed, match=says):
            Model.of_config(config)


@given(st.tuples(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999)))
def test_versions_survive_being_numbers(parts):
    name = ".".join(map(str, parts))
    number = version_number(name)
    if int(number) >= 1000:
        assert version_name(number) == name


def test_odd_versions():
    assert version_name("3") == "3"
    assert version_number("") == ""
    with pytest.raises(InvalidInput, match="'latest'"):
        version_number("latest")


def test_options_that_contradict_are_refused():
    with pytest.raises(ValueError, match="needs tls"):
        Servers(["cloud:8001"], token="secret")  # noqa: S106
    assert Servers(["localhost:8001"], token="secret")  # noqa: S106
    with pytest.raises(ValueError, match="belong together"):
        Tls(certificate=Path("x"))
    with pytest.raises(ValueError, match="threshold"):
        Fallback(score=lambda _: np.zeros(1))
    assert Servers.of("a:1, b:2").addresses == ("a:1", "b:2")


def test_metrics_as_a_snapshot_and_as_text():
    metrics = Metrics()
    for seconds in (0.001, 0.002, 0.004, 1.0):
        metrics.answered('m"\n', "edge", ["edge"] * 2, seconds)
    metrics.answered("m", "mixed", ["edge", "cloud", "edge"], 0.5)
    metrics.gauges(lambda: [("queue", (), 3.0)])
    snapshot = json.loads(json.dumps(metrics.snapshot()))
    assert snapshot['rows_total{model="m",source="edge"}'] == 2
    assert snapshot['rows_total{model="m",source="cloud"}'] == 1
    histogram = next(v for k, v in snapshot.items() if k.startswith("call_seconds") and "\\n" in k)
    assert histogram["count"] == 4
    assert 0.002 <= histogram["p50"] <= 0.004
    text = metrics.prometheus()
    assert 'repo_builder_client_calls_total{model="m\\"\\n",source="edge"} 4' in text
    assert "# TYPE repo_builder_client_call_seconds histogram" in text
    assert "repo_builder_client_queue 3" in text


def test_prometheus_own_parser_reads_the_text():
    parser = pytest.importorskip("prometheus_client.parser")
    metrics = Metrics()
    metrics.answered("m", "edge", ["edge"], 0.01)
    metrics.count("retries_total", (("side", "edge"),))
    families = {f.name: f for f in parser.text_string_to_metric_families(metrics.prometheus())}
    assert families["repo_builder_client_calls"].type == "counter"
    assert families["repo_builder_client_call_seconds"].type == "histogram"


def test_opentelemetry_gets_every_figure():
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    metrics = Metrics()
    metrics.answered("m", "edge", ["edge"] * 3, 0.25)
    metrics.opentelemetry(sdk.MeterProvider([reader]).get_meter("test"))
    points = {
        metric.name: [point.value for point in metric.data.data_points]
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert points["repo_builder_client_calls_total"] == [1]
    assert points["repo_builder_client_rows_total"] == [3]
    assert points["repo_builder_client_call_seconds_sum"] == [0.25]


def test_the_client_stands_alone():
    code = """
import sys
import repo_builder.client
from repo_builder.client import EdgeClient
EdgeClient("localhost:1").close()
others = [m for m in sys.modules if m.startswith("repo_builder.") and ".client" not in m]
heavy = {"sqlite3", "onnx", "PIL", "scipy", "pydantic", "click"} & set(sys.modules)
assert not others and not heavy, (others, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
