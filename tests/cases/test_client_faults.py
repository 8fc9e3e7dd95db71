"""Faults that a network and a server commit, against genuine Tritons through a real proxy.

Bounds that hold in every test: no call outlives its deadline by more than 50 ms, and no row is
ever given for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import client_models as models
import numpy as np
import pytest
import tritonclient.grpc as tritonclient
from faults import Proxy

from repo_builder.client import (
    AsyncEdgeClient,
    Breaker,
    ClientError,
    Closed,
    DeadlineExceeded,
    EdgeClient,
    Fallback,
    InvalidInput,
    Limits,
    ModelNotFound,
    Overloaded,
    Retry,
    ServerFailed,
    SharedMemory,
    Unavailable,
)

LATE = 0.05


def rows(n: int, unsure: tuple[int, ...] = ()) -> Any:
    x = np.zeros((n, 4), np.float32)
    x[:, 0] = 10.0
    x[list(unsure), 0] = 0.1
    x[:, 3] = np.random.default_rng().integers(0, 1 << 20, n)
    return x


def checked(client: EdgeClient, x: Any, timeout: float, model: str = "echo") -> Any:
    """An answer that came in time, each row for its own; or the error, in time too."""
    start = time.monotonic()
    try:
        result = client.infer(model, x, timeout=timeout)
    finally:
        assert time.monotonic() - start <= timeout + LATE
    assert result["id"].ravel().tolist() == x[:, 3].tolist()
    return result


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def edge_proxy(pair) -> Iterator[Proxy]:
    with Proxy(pair.edge.grpc_url) as proxy:
        yield proxy


@pytest.fixture
def cloud_proxy(pair) -> Iterator[Proxy]:
    with Proxy(pair.cloud.grpc_url) as proxy:
        yield proxy


@pytest.fixture
def client(edge_proxy, cloud_proxy) -> Iterator[EdgeClient]:
    with EdgeClient(edge_proxy.address, cloud_proxy.address) as client:
        checked(client, rows(2, unsure=(1,)), 10.0)
        yield client


def test_a_batch_of_64_with_6_unsure_rows_shows_the_cloud_6(pair, client):
    before = len(pair.cloud_log.read_text().splitlines())
    result = checked(client, rows(64, unsure=(0, 7, 8, 30, 62, 63)), 5.0)
    seen = pair.cloud_log.read_text().splitlines()[before:]
    assert [json.loads(line)["rows"] for line in seen] == [6]
    assert np.flatnonzero(result["who"]).tolist() == [0, 7, 8, 30, 62, 63]
    assert (result.version, result.cloud_version) == ("1.0.0", "1.0.0")
    assert result.labels[1] == "cat"


def test_more_rows_than_the_model_takes_travel_in_parts_and_only_unsure_ones_to_the_cloud(
    pair, client
):
    before = len(pair.cloud_log.read_text().splitlines())
    unsure = (0, 7, 63, 64, 149)
    result = checked(client, rows(150, unsure=unsure), 5.0)
    seen = pair.cloud_log.read_text().splitlines()[before:]
    assert [json.loads(line)["rows"] for line in seen] == [5]
    assert np.flatnonzero(result["who"]).tolist() == list(unsure)
    assert [row for row, source in enumerate(result.sources) if source == "cloud"] == list(unsure)


def test_delay_and_throttle_only_slow_things_down(client, edge_proxy, cloud_proxy):
    edge_proxy.delay = cloud_proxy.delay = 0.02
    cloud_proxy.rate = 20_000
    assert set(checked(client, rows(8, unsure=(1,)), 5.0).sources) == {"edge", "cloud"}


def test_cloud_slow_then_dead_then_back(client, cloud_proxy):
    x = rows(4, unsure=(2,))
    cloud_proxy.delay = 5.0
    assert checked(client, x, 0.3).sources[2] == "edge-unverified"
    cloud_proxy.delay = 0.0
    cloud_proxy.refuse = True
    cloud_proxy.reset()
    for _ in range(10):
        assert checked(client, x, 0.5).sources[2] == "edge-unverified"
    quick = time.monotonic()
    checked(client, x, 5.0)
    assert time.monotonic() - quick < 1.0, "an open breaker answers at once"
    cloud_proxy.refuse = False
    eventually(lambda: checked(client, x, 1.0).sources[2] == "cloud")


@pytest.mark.parametrize("fault", ["blackhole", "stall", "cut", "reset"])
def test_the_edge_failing_in_any_way_is_answered_by_the_cloud(client, edge_proxy, fault):
    if fault == "blackhole":
        edge_proxy.blackhole = True
    elif fault == "stall":
        edge_proxy.stall_after = 5
        edge_proxy.cut()
    else:
        edge_proxy.refuse = True
        edge_proxy.cut() if fault == "cut" else edge_proxy.reset()
    assert checked(client, rows(3), 1.0).source == "cloud"
    edge_proxy.blackhole = edge_proxy.refuse = False
    edge_proxy.stall_after = -1
    edge_proxy.cut()
    eventually(lambda: checked(client, rows(3), 1.0).source == "edge")


def test_an_edge_that_is_down_from_the_start_is_answered_by_the_model_behind_it(
    edge_proxy, cloud_proxy, tmp_path
):
    """The cloud's model has another name, which only the edge could tell."""

    def client(**fallback: Any) -> EdgeClient:
        return EdgeClient(edge_proxy.address, cloud_proxy.address, fallback=Fallback(**fallback))

    memory = tmp_path / "memory.json"
    with client(memory=memory) as before:
        assert checked(before, rows(2), 10.0, "little").source == "edge"
    edge_proxy.refuse = True
    with client(memory=memory) as started_without:
        result = checked(started_without, rows(3), 2.0, "little")
        assert result.source == "cloud"
        assert result["who"].ravel().tolist() == [1, 1, 1]
        assert started_without.describe("little").name == "echo-large"
    with client(models={"little": "echo-large"}) as told:
        assert checked(told, rows(1), 2.0, "little").source == "cloud"
    with client() as knows_nothing, pytest.raises(Unavailable) as caught:
        checked(knows_nothing, rows(1), 0.5, "little")
    assert edge_proxy.address in str(caught.value)
    assert "'little' is not found" in str(caught.value)
    edge_proxy.refuse = False


def test_both_sides_gone_is_one_error_that_names_both(client, edge_proxy, cloud_proxy):
    for proxy in (edge_proxy, cloud_proxy):
        proxy.refuse = True
        proxy.reset()
    with pytest.raises(Unavailable) as caught:
        checked(client, rows(1), 0.5)
    assert edge_proxy.address in str(caught.value)
    assert cloud_proxy.address in str(caught.value)


def test_both_sides_refusing_end_a_call_at_once_and_it_says_what_to_do(
    client, edge_proxy, cloud_proxy
):
    for proxy in (edge_proxy, cloud_proxy):
        proxy.refuse = True
        proxy.reset()
    eventually(lambda: refused_fast(client))
    cure = "is a Triton running there.*repo-builder serve.*address"
    with pytest.raises(Unavailable, match=cure):
        client.infer("echo", rows(1), timeout=30.0)


def refused_fast(client: EdgeClient) -> bool:
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        client.infer("echo", rows(1), timeout=30.0)
    return time.monotonic() - begun < 5


def test_a_blackholed_edge_without_a_cloud_ends_at_the_deadline(edge_proxy):
    with EdgeClient(edge_proxy.address) as client:
        checked(client, rows(1), 10.0)
        edge_proxy.blackhole = True
        for timeout in (0.05, 0.2, 0.5):
            with pytest.raises(DeadlineExceeded, match=edge_proxy.address):
                checked(client, rows(1), timeout)


def test_a_stall_in_the_middle_of_an_answer_ends_at_the_deadline(edge_proxy):
    x = np.random.default_rng(0).random((1, 300_000)).astype(np.float32)
    wire = SharedMemory(enabled=False)
    with EdgeClient(edge_proxy.address, shared_memory=wire) as client:
        assert (client.infer("big", x)["y"] == x).all()
        edge_proxy.stall_after = 100_000  # of 1.2 MB
        edge_proxy.cut()
        for timeout in (0.2, 0.5):
            start = time.monotonic()
            with pytest.raises(DeadlineExceeded, match=edge_proxy.address):
                client.infer("big", x, timeout=timeout)
            assert time.monotonic() - start <= timeout + LATE
        edge_proxy.stall_after = -1
        edge_proxy.cut()
        assert (client.infer("big", x, timeout=5.0)["y"] == x).all()


@pytest.mark.parametrize("fault", ["blackhole", "stall", "cut", "reset"])
def test_the_cloud_failing_in_any_way_leaves_the_edges_answer(client, cloud_proxy, fault):
    if fault == "blackhole":
        cloud_proxy.blackhole = True
    elif fault == "stall":
        cloud_proxy.stall_after = 5
        cloud_proxy.cut()
    else:
        cloud_proxy.refuse = True
        cloud_proxy.cut() if fault == "cut" else cloud_proxy.reset()
    result = checked(client, rows(3, unsure=(1,)), 0.5)
    assert result.sources == ["edge", "edge-unverified", "edge"]
    assert result.why_unverified.startswith("cloud: ")
    cloud_proxy.blackhole = cloud_proxy.refuse = False
    cloud_proxy.stall_after = -1
    cloud_proxy.cut()
    eventually(lambda: checked(client, rows(3, unsure=(1,)), 1.0).sources[1] == "cloud")


def test_connections_that_are_cut_all_the_time_lose_no_call(edge_proxy):
    stop = threading.Event()
    failures: list[BaseException] = []
    done = [0]

    def work() -> None:
        while not stop.is_set():
            try:
                checked(client, rows(3), 5.0)
                done[0] += 1
            except BaseException as error:
                failures.append(error)
                raise

    with EdgeClient(edge_proxy.address) as client:
        checked(client, rows(1), 10.0)
        threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(12):
            before = done[0]
            eventually(lambda before=before: done[0] > before + 20)
            edge_proxy.cut() if number % 2 else edge_proxy.reset()
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    """Below the ephemeral ports: from one of these, a client that keeps trying to connect to a port
    where nobody listens connects to itself in the end, and holds it."""
    return next(port for port in range(21000, 32000) if _free(port))


def test_a_server_that_is_killed_and_restarted_under_load_loses_no_call(triton, tmp_path):
    models.echo(tmp_path / "models")
    port = _free_port()
    first = triton(tmp_path / "models", grpc_port=port)
    stop = threading.Event()
    failures: list[BaseException] = []
    done = [0]

    def work() -> None:
        while not stop.is_set():
            try:
                checked(client, rows(2), 20.0)
                done[0] += 1
            except BaseException as error:
                failures.append(error)
                raise

    with EdgeClient(first.grpc_url) as client:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(16)]
        for thread in threads:
            thread.start()
        eventually(lambda: done[0] > 200)
        # The whole group: its Python stubs hold on to the port otherwise.
        os.killpg(first.pid, signal.SIGKILL)
        eventually(lambda: _free(port))
        time.sleep(1.0)  # all calls wait by now, and the breaker is open
        second = triton(tmp_path / "models", grpc_port=port)
        assert second.grpc_url == first.grpc_url
        before = done[0]
        eventually(lambda: done[0] > before + 200, 3.0)
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_task_is_answered_as_soon_as_the_server_is_back(triton, tmp_path):
    models.echo(tmp_path / "models")
    port = _free_port()
    first = triton(tmp_path / "models", grpc_port=port)

    async def main() -> None:
        breaker = Breaker(cooldown=30.0, max_cooldown=30.0)
        async with AsyncEdgeClient(first.grpc_url, breaker=breaker) as client:
            await client.infer("echo", rows(1))
            os.killpg(first.pid, signal.SIGKILL)
            eventually(lambda: _free(port))
            waiting = asyncio.ensure_future(client.infer("echo", rows(1), timeout=20.0))
            await asyncio.sleep(0.5)
            triton(tmp_path / "models", grpc_port=port)
            start = time.monotonic()
            await waiting
            assert time.monotonic() - start < 3.0

    asyncio.run(main())


UNCLOSED = {
    "threads": """
EdgeClient("127.0.0.1:1").infer("echo", x, timeout=0.5)
""",
    "tasks": """
async def main():
    await AsyncEdgeClient("127.0.0.1:1").infer("echo", x, timeout=0.5)

asyncio.run(main())
""",
}


@pytest.mark.parametrize("code", UNCLOSED.values(), ids=UNCLOSED)
def test_a_process_ends_that_never_closed_its_client(code):
    """Also while that client goes on trying to reach its server."""
    head = """
import asyncio
import numpy as np
from repo_builder.client import AsyncEdgeClient, EdgeClient
x = np.zeros((1, 4), np.float32)
"""
    words = [sys.executable, "-c", head + code]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "Unavailable" in ended.stderr.splitlines()[-1]


def test_a_model_that_is_unloaded_and_reloaded_is_waited_for(triton, tmp_path):
    models.echo(tmp_path / "models")
    server = triton(tmp_path / "models", models=["*"])
    admin = tritonclient.InferenceServerClient(server.grpc_url)
    with EdgeClient(server.grpc_url) as client:
        assert checked(client, rows(1), 5.0).version == "1.0.0"
        admin.unload_model("echo")
        eventually(lambda: not admin.is_model_ready("echo"))
        answers: list[Any] = []
        waiting = threading.Thread(target=lambda: answers.append(checked(client, rows(1), 10.0)))
        waiting.start()
        # The next version has another threshold: the client must not use the old one.
        models.echo(tmp_path / "models", version="1.1.0", policy={**models.POLICY, "threshold": 2})
        admin.load_model("echo")
        waiting.join()
        result = answers[0]
        assert result.version == "1.1.0"
        assert result.policy.threshold == 2
    admin.close()


def test_a_name_that_does_not_resolve(pair):
    with EdgeClient("no-such-host.invalid:8001", pair.cloud.grpc_url) as client:
        assert checked(client, rows(1), 3.0).source == "cloud"
    with (
        EdgeClient("no-such-host.invalid:8001") as client,
        pytest.raises((Unavailable, DeadlineExceeded), match="no-such-host.invalid"),
    ):
        checked(client, rows(1), 0.5)


def test_wrong_name_version_shape_and_type_name_both_sides(pair):
    with EdgeClient(pair.edge.grpc_url) as client:
        with pytest.raises(ModelNotFound, match=r"'eco'.*it has 'echo'"):
            client.infer("eco", rows(1))
        with pytest.raises(ModelNotFound, match=r"version 9000000.*it has version 1\.0\.0"):
            client.infer("echo", rows(1), version="9.0.0")
        with pytest.raises(InvalidInput, match=r"\[rows, 4\], \[1, 3\]"):
            client.infer("echo", rows(1)[:, :3])
        with pytest.raises(InvalidInput, match="FP32.*float64"):
            client.infer("echo", rows(1).astype(float))
        assert client.infer("echo", rows(1), version="1.0.0").version == "1.0.0"


def test_a_model_that_fails_is_one_clear_error(pair):
    with (
        EdgeClient(pair.edge.grpc_url) as client,
        pytest.raises(ServerFailed, match="the model does not take NaN"),
    ):
        client.infer("echo", np.full((1, 4), np.nan, np.float32))


def test_a_server_that_refuses_for_lack_of_room(pair):
    with EdgeClient(pair.edge.grpc_url, retry=Retry(attempts=2)) as client:
        x = [rows(1) for _ in range(6)]
        answers = client.infer_many("full", x, concurrency=6, timeout=20.0)
        for one, answer in zip(x, answers, strict=True):
            assert answer["id"].tolist() == one[:, 3:].tolist()
        assert "retries_total" in client.metrics.prometheus()


def test_a_full_queue_of_the_server_is_an_overload(pair):
    with EdgeClient(pair.edge.grpc_url, retry=Retry(attempts=1, patient=False)) as client:
        answers = client.infer_many(
            "full", [rows(1)] * 8, concurrency=8, timeout=20.0, return_errors=True
        )
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        assert refused
        assert {type(answer) for answer in refused} == {Overloaded}
        assert "queue" in str(refused[0])


def test_a_request_that_no_server_would_take_is_not_sent(pair):
    with EdgeClient(pair.edge.grpc_url) as client:
        x = np.zeros((1, 2**29), np.float32)  # pages of zeros that nobody touches
        with pytest.raises(InvalidInput, match=r"has 21474836\d\d bytes.*takes at most 2147483647"):
            client.infer("big", x)
        assert client.infer("big", x[:, :3])["y"].tolist() == [[0, 0, 0]]


def test_an_answer_without_an_output_is_an_error_of_the_client(triton, tmp_path):
    folder = models.big(tmp_path)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text() + 'output [{ name: "z" data_type: TYPE_FP32 dims: [1] }]')
    server = triton(tmp_path)
    for minimum in (1, 2**30):
        memory = SharedMemory(minimum=minimum)
        with EdgeClient(server.grpc_url, shared_memory=memory) as client:
            for _ in range(2):
                with pytest.raises(ServerFailed, match="'big': its answer lacks the output 'z'"):
                    client.infer("big", np.ones((1, 4), np.float32))


def test_a_full_queue_sheds_load_at_once(pair):
    limits = Limits(concurrency=2, queue=2)
    with EdgeClient(pair.edge.grpc_url, limits=limits) as client:
        client.infer("echo", rows(1))
        answers = client.infer_many(
            "slow", [rows(1)] * 8, concurrency=8, timeout=0.5, return_errors=True
        )
        kinds = [type(answer) for answer in answers]
        assert kinds.count(Overloaded) == 4
        assert kinds.count(DeadlineExceeded) == 4


def test_a_call_past_its_deadline_is_cancelled_on_the_server(pair):
    before = len(pair.edge_log.read_text().splitlines())
    with EdgeClient(pair.edge.grpc_url) as client:
        client.infer("echo", rows(1))
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            checked(client, rows(1), 1.0, "slow")

        def cancelled() -> bool:
            lines = pair.edge_log.read_text().splitlines()[before:]
            return any(json.loads(line)["cancelled"] for line in lines)

        eventually(cancelled)
        assert time.monotonic() - start < 3.0, "the model was told, it did not run its 5 s"


def test_a_cancelled_task_is_cancelled_on_the_server(pair):
    before = len(pair.edge_log.read_text().splitlines())

    async def main() -> None:
        async with AsyncEdgeClient(pair.edge.grpc_url) as client:
            await client.infer("echo", rows(1))
            task = asyncio.ensure_future(client.infer("slow", rows(1)))
            await asyncio.sleep(1.0)  # the model has it by then, on a busy machine too
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            endpoint = client._core.edge.endpoints[0]
            assert endpoint.inflight == 0

    asyncio.run(main())
    eventually(
        lambda: any(
            json.loads(line)["cancelled"]
            for line in pair.edge_log.read_text().splitlines()[before:]
        ),
        seconds=3.0,
    )


def test_a_second_server_hides_the_loss_of_the_first(pair):
    with (
        Proxy(pair.edge.grpc_url) as one,
        Proxy(pair.edge.grpc_url) as two,
        EdgeClient([one.address, two.address]) as client,
    ):
        for _ in range(80):
            checked(client, rows(1), 5.0)
        one.blackhole = True
        for _ in range(20):
            checked(client, rows(1), 1.0)
        assert any(key.startswith("hedges_total") for key in client.metrics.snapshot())


@pytest.mark.parametrize("cloud", [None, "127.0.0.1:1"], ids=["edge", "cloud down"])
def test_a_fork_after_use_works_in_the_child_and_in_the_parent(pair, cloud):
    with EdgeClient(pair.edge.grpc_url, cloud) as client:
        client.infer_many("echo", [rows(1)] * 20)
        result = client.infer("echo", rows(1, unsure=(0,)), timeout=5.0)
        assert result.source == ("edge" if cloud is None else "edge-unverified")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                checked(client, rows(1), 5.0)
                client.infer_many("echo", [rows(1)] * 20, timeout=5.0)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        checked(client, rows(1), 5.0)
        client.infer_many("echo", [rows(1)] * 20)


def test_everything_again_asynchronously(edge_proxy, cloud_proxy):
    async def main() -> None:
        async with AsyncEdgeClient(edge_proxy.address, cloud_proxy.address) as client:
            x = rows(8, unsure=(5,))
            result = await client.infer("echo", x)
            assert result.sources[5] == "cloud"
            assert result["id"].ravel().tolist() == x[:, 3].tolist()
            many = [rows(2) for _ in range(50)]
            answers = await client.infer_many("echo", many)
            for one, answer in zip(many, answers, strict=True):
                assert answer["id"].ravel().tolist() == one[:, 3].tolist()
            streamed = [answer async for answer in client.stream("echo", many)]
            for one, answer in zip(many, streamed, strict=True):
                assert answer["id"].ravel().tolist() == one[:, 3].tolist()
            edge_proxy.blackhole = True
            start = time.monotonic()
            assert (await client.infer("echo", x, timeout=0.4)).source == "cloud"
            assert time.monotonic() - start < 0.45
            cloud_proxy.blackhole = True
            with pytest.raises(ClientError):
                await client.infer("echo", x, timeout=0.4)

    asyncio.run(main())


def test_a_closed_client_says_so_also_to_calls_under_way(pair):
    client = EdgeClient(pair.edge.grpc_url)
    client.infer("echo", rows(1))
    errors: list[ClientError] = []

    def work() -> None:
        try:
            client.infer("slow", rows(1))
        except ClientError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: client._core.edge.endpoints[0].inflight == 1)
    client.close()
    thread.join(5)
    assert [type(error) for error in errors] == [Closed]
    for call in (client.infer, client.infer_many):
        with pytest.raises(Closed):
            call("echo", rows(1))


def logged(log, before: int) -> list[int]:
    return [json.loads(line)["rows"] for line in log.read_text().splitlines()[before:]]


def test_many_small_items_share_requests_and_get_their_own_answers(pair):
    frames = list(rows(100, unsure=(3, 4, 50)))
    before = [len(log.read_text().splitlines()) for log in (pair.edge_log, pair.cloud_log)]
    with EdgeClient(pair.edge.grpc_url, pair.cloud.grpc_url) as client:
        answers = client.infer_many("batching", frames)
    for i, (frame, answer) in enumerate(zip(frames, answers, strict=True)):
        assert (answer.batch, answer["id"].tolist()) == (None, frame[3:].tolist())
        assert answer.sources == ["cloud" if i in (3, 4, 50) else "edge"]
        assert answer.cloud_version == ("1.0.0" if i in (3, 4, 50) else "")
        assert (answer.confidence > 0.85) == (i not in (3, 4, 50))
        assert answer.labels == "cat"
    edge = logged(pair.edge_log, before[0])
    assert (sum(edge), max(edge)) == (100, 8)
    assert len(edge) <= 16 + 11  # alone until the model is known, then by eights
    assert sum(logged(pair.cloud_log, before[1])) == 3


def test_an_item_that_fails_among_others_fails_alone(pair):
    frames = list(rows(30))
    frames[5] = np.full(4, np.nan, np.float32)
    frames[11] = np.zeros(3, np.float32)
    frames[12] = rows(3)
    with EdgeClient(pair.edge.grpc_url) as client:
        answers = client.infer_many("batching", frames, return_errors=True)
        with pytest.raises(InvalidInput):
            client.infer_many("batching", frames[11:])
    assert [i for i, one in enumerate(answers) if isinstance(one, ClientError)] == [5, 11]
    assert (type(answers[5]), type(answers[11])) == (ServerFailed, InvalidInput)
    assert answers[12].batch == 3
    for i, (frame, answer) in enumerate(zip(frames, answers, strict=True)):
        if i not in (5, 11):
            assert answer["id"].ravel().tolist() == frame.reshape(-1, 4)[:, 3].tolist()


def test_streams_and_many_keep_the_order(pair):
    frames = [rows(2) for _ in range(100)]
    with EdgeClient(pair.edge.grpc_url, fallback=Fallback()) as client:
        for answers in (
            client.infer_many("echo", frames),
            list(client.stream("echo", iter(frames), window=8)),
        ):
            for frame, answer in zip(frames, answers, strict=True):
                assert answer["id"].ravel().tolist() == frame[:, 3].tolist()
