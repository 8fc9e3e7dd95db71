"""Shared memory with a genuine Triton: right answers, nothing lent twice, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import client_models as models
import numpy as np
import pytest
import triton_models
import tritonclient.grpc as tritonclient
from faults import Proxy

from repo_builder.client import DeadlineExceeded, EdgeClient, SharedMemory

SHM = Path("/dev/shm")  # noqa: S108


def regions(pid: int | None = None) -> set[str]:
    return {path.name for path in SHM.glob(f"repo-builder-{pid or os.getpid()}-*")}


def frame(seed: int, size: int = 100_000) -> Any:
    return np.random.default_rng(seed).random((2, size)).astype(np.float32)


def moved(client: EdgeClient) -> float:
    return client.metrics.snapshot().get("shared_memory_bytes_total", 0.0)


def test_large_tensors_go_through_shared_memory_and_come_back_right(pair):
    x = frame(0)
    with EdgeClient(pair.edge.grpc_url) as client:
        for _ in range(3):
            assert np.array_equal(client.infer("big", x)["y"], x)
        # In once over the wire's sizes, then in and out.
        assert moved(client) == x.nbytes * 5
        before = moved(client)
        client.infer("big", x[:, :100])
        assert moved(client) == before, "small tensors go over the wire"
        # Another shape of the same model, and outputs of another size.
        for seed in range(6):
            y = frame(seed, 50_000 + seed * 20_000)
            assert np.array_equal(client.infer("big", y)["y"], y)
        assert regions()
        admin = tritonclient.InferenceServerClient(pair.edge.grpc_url)
        assert regions() <= set(admin.get_system_shared_memory_status().regions)
    assert not regions()
    assert not [r for r in admin.get_system_shared_memory_status().regions if "repo-builder" in r]
    admin.close()


def test_more_rows_than_a_request_takes_go_through_shared_memory_in_parts(pair):
    """The model takes 8 at once; parts of one shape share what is known of their outputs."""
    x = np.random.default_rng(3).random((20, 50_000)).astype(np.float32)
    with EdgeClient(pair.edge.grpc_url) as client:
        assert np.array_equal(client.infer("big", x)["y"], x)
        # In 8, 8 and 4 rows; out the second time 8: what is not yet known comes over the wire.
        assert moved(client) == (20 + 8) * x[0].nbytes
        assert np.array_equal(client.infer("big", x[:3])["y"], x[:3])


def test_many_at_once_never_get_each_others_rows(pair):
    wrong: list[int] = []
    with EdgeClient(pair.edge.grpc_url, shared_memory=SharedMemory(max_bytes=4 << 20)) as client:

        def work(seed: int) -> None:
            for number in range(25):
                x = frame(seed * 1000 + number, 60_000)
                if not np.array_equal(client.infer("big", x)["y"], x):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        many = [frame(seed) for seed in range(30)]
        for x, answer in zip(many, client.infer_many("big", many), strict=True):
            assert np.array_equal(answer["y"], x)
    assert not wrong
    assert not regions()


def test_a_region_whose_call_was_given_up_is_never_lent_again(pair):
    with Proxy(pair.edge.grpc_url) as proxy, EdgeClient(proxy.address) as client:
        x = frame(1)
        for _ in range(2):
            client.infer("big", x)
        used = regions()
        proxy.blackhole = True
        with pytest.raises(DeadlineExceeded):
            client.infer("big", x, timeout=0.2)
        proxy.blackhole = False
        assert np.array_equal(client.infer("big", x, timeout=5.0)["y"], x)
        assert used - regions(), "the one it was in is gone"


def test_a_server_forgets_the_region_of_a_late_call_once_it_can(triton, tmp_path):
    """It refuses while it uses the region."""
    triton_models.add(tmp_path, "looping", triton_models.looping())
    server = triton(tmp_path)
    long, short = ({"x": np.ones(1, np.float32), "turns": np.array([turns])} for turns in (4000, 1))
    admin = tritonclient.InferenceServerClient(server.grpc_url)

    def registered() -> set[str]:
        return set(admin.get_system_shared_memory_status().regions)

    with EdgeClient(server.grpc_url, shared_memory=SharedMemory(minimum=1)) as client:
        client.infer("looping", short, timeout=30.0)
        with pytest.raises(DeadlineExceeded):
            client.infer("looping", long, timeout=0.3)
        client.infer("looping", short, timeout=60.0)  # runs after it, and asks before that
        end = time.monotonic() + 20
        while not registered() <= regions():
            client.infer("looping", short, timeout=60.0)
            assert time.monotonic() < end, "the region was forgotten here, not there"
    assert not registered()
    admin.close()


def test_a_server_that_was_restarted_has_forgotten_the_regions(triton, tmp_path):
    models.big(tmp_path / "models")
    first = triton(tmp_path / "models")
    second = triton(tmp_path / "models")
    x = frame(2)
    with Proxy(first.grpc_url) as proxy, EdgeClient(proxy.address) as client:
        for _ in range(2):
            assert np.array_equal(client.infer("big", x)["y"], x)
        host, _, port = second.grpc_url.rpartition(":")
        proxy.target = (host, int(port))
        proxy.cut()
        before = moved(client)
        for _ in range(3):
            assert np.array_equal(client.infer("big", x, timeout=10.0)["y"], x)
        assert moved(client) > before, "and gets them anew"


def test_a_server_elsewhere_is_served_over_the_wire(pair):
    # A region that the server cannot open, as in another container: registration is refused.
    with EdgeClient(pair.edge.grpc_url) as client:
        pool = client._core.regions
        endpoint = client._core.edge.endpoints[0]
        original = pool._lease

        def hidden(endpoint: Any, size: int, timeout: float) -> Any:
            lease = original(endpoint, size, timeout)
            send = next(lease)
            for name in regions():
                (SHM / name).rename(SHM / f"hidden-{name}")
            try:
                said = yield send
                return lease.send(said)
            except StopIteration as stop:
                return stop.value
            finally:
                for path in SHM.glob("hidden-repo-builder-*"):
                    path.unlink()

        pool._lease = hidden
        x = frame(3)
        for _ in range(5):
            assert np.array_equal(client.infer("big", x)["y"], x)
        assert moved(client) == 0
        assert not pool.accepts(
            endpoint, client._core.catalog.known(client._core.edge, "big").batch(x)
        )


KILLED = """
import sys, numpy as np
from repo_builder.client import EdgeClient
client = EdgeClient(sys.argv[1])
x = np.zeros((1, 200_000), np.float32)
client.infer("big", x)
print("ready", flush=True)
while True:
    client.infer("big", x)
"""


def test_a_client_that_is_killed_leaves_nothing_behind_for_long(pair):
    admin = tritonclient.InferenceServerClient(pair.edge.grpc_url)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, pair.edge.grpc_url], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert regions(process.pid), "it was killed with a region in use"
    with EdgeClient(pair.edge.grpc_url) as client:
        x = frame(4)
        assert np.array_equal(client.infer("big", x)["y"], x)
        assert not regions(process.pid)
    end = time.monotonic() + 5
    while any(str(process.pid) in r for r in admin.get_system_shared_memory_status().regions):
        assert time.monotonic() < end
    admin.close()
