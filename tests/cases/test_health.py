"""The images' health check against a genuine Triton: what it sees, and what it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import triton_models as models
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from repo_builder import serve
from repo_builder.images.inside import health


def check(server: serve.Triton, *mode: str) -> tuple[int, str]:
    """Exit code and words of the health check, run as an image runs it."""
    port = server.http_url.rpartition(":")[2]
    found = subprocess.run(
        [sys.executable, "-IS", health.__file__, *mode],
        env={"TRITON_HTTP_PORT": port, "TRITON_PID": str(server.pid)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not found.stderr
    return found.returncode, found.stdout.strip()


def server_ready(server: serve.Triton) -> bool:
    with InferenceServerClient(server.grpc_url) as client:
        return bool(client.is_server_ready())


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def server(triton: StartTriton, tmp_path: Path) -> serve.Triton:
    models.add(tmp_path, "counting", models.counting(), max_batch_size=4)
    models.add(tmp_path, "greeting", models.greeting(), max_batch_size=4)
    return triton(tmp_path, models=["*"])


def stub_of(server: serve.Triton, model: str) -> int:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    (stub,) = (n for n in children if f"/{model}/" in Path(f"/proc/{n}/cmdline").read_text())
    return int(stub)


def test_a_dead_process_of_a_model_is_seen_though_triton_calls_it_ready(
    server: serve.Triton,
) -> None:
    assert check(server) == check(server, "live") == (0, "healthy")
    os.kill(stub_of(server, "counting"), signal.SIGKILL)
    wait_for(lambda: check(server)[0] == 1)
    assert server_ready(server)
    for mode in ((), ("live",)):
        code, said = check(server, *mode)
        assert code == 1
        assert f"a process that ran a model of Triton ({server.pid}) is dead" in said
    with InferenceServerClient(server.grpc_url) as client:
        client.unload_model("counting")
        wait_for(lambda: check(server)[0] == 0)  # unloaded on purpose
        client.load_model("counting")
    assert check(server) == (0, "healthy")


def test_restart_ends_a_triton_that_lost_a_process(server: serve.Triton) -> None:
    assert check(server, "restart") == (0, "healthy")
    os.kill(stub_of(server, "greeting"), signal.SIGKILL)
    wait_for(lambda: check(server, "restart")[0] == 1)
    wait_for(
        lambda: Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    )


def test_a_version_that_fails_to_load_does_not_make_the_others_unhealthy(
    server: serve.Triton,
) -> None:
    new = server.models_dir / "counting" / "2"
    new.mkdir()
    (new / "model.onnx").write_text("no model")
    with InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException):
            client.load_model("counting")
        assert client.is_model_ready("counting", "1")
    assert not server_ready(server)  # and stays so
    assert check(server) == (0, "healthy")


def test_a_model_without_a_version_that_is_ready_is_named() -> None:
    index = [
        {"name": "a", "version": "1", "state": "UNAVAILABLE", "reason": "no such file"},
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "b", "version": "2", "state": "READY"},
        {"name": "c", "version": "1", "state": "UNLOADING"},
        {"name": "c", "version": "2", "state": "READY"},
        {"name": "d"},
        {"name": "e", "version": "1", "state": "LOADING"},
    ]
    assert health.unserved(index) == ["model a: UNAVAILABLE no such file", "model e: LOADING"]
