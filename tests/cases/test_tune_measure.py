"""Blocks of load on a genuine Triton: what is loaded, what is counted, and what goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from triton_models import StartTriton
from workplace import Workplace

from repo_builder.base.errors import MissingExtra, ServeError
from repo_builder.serve import install
from repo_builder.spec.candidate import Candidate
from repo_builder.tune import inputs, published
from repo_builder.tune.block import Bench
from repo_builder.tune.local import MOST_LOADED, Local
from repo_builder.tune.remote import Remote
from repo_builder.tune.rules.types import SLICES, Measure
from repo_builder.tune.sender import Sender
from repo_builder.tune.server import Servable

ONE = Candidate("onnxruntime", 1, 1)
BATCHES = Candidate("onnxruntime", 1, 1, 4, 2000)


@pytest.fixture(scope="module")
def digits(built: Workplace) -> Servable:
    return published.servable("digits", [built.out / "cpu", built.out / "cpu-openvino"])


@pytest.fixture(scope="module")
def requests(digits: Servable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("requests") / "digits.npz"
    inputs.write(inputs.made(digits.configs["onnxruntime"]), path)
    return path


@pytest.fixture(scope="module")
def sender() -> Iterator[Sender]:
    with Sender() as process:
        yield process


@pytest.fixture(scope="module")
def local(unavailable: Callable[[str], NoReturn]) -> Iterator[Local]:
    try:
        install.find()
    except MissingExtra as missing:
        unavailable(str(missing))
    with Local() as server:
        yield server


def block(server: Any, sender: Sender, model: Servable, requests: Path, asked: Measure) -> Any:
    said: list[str] = []
    found = Bench(server, sender, said.append).block(model, requests, asked)
    return found, said


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_block_says_what_client_and_triton_have_counted(
    runtime: Any, local: Local, sender: Sender, digits: Servable, requests: Path
) -> None:
    asked = Measure(Candidate(runtime, 1, 1), None, 0.5, callers=2)
    found, _ = block(local, sender, digits, requests, asked)
    assert found.problem == ""
    assert found.failed == 0
    assert len(found.slices) == SLICES
    assert 0 < found.completed <= found.sent
    # Triton counts the requests before the clock ran too.
    assert found.service.rows >= found.sent
    assert found.service.batches.keys() == {1}
    assert found.cpu_s > 0 < found.client_cpu_s
    assert found.memory_bytes > 1e6


def test_requests_are_joined_where_the_candidate_says_so(
    local: Local, sender: Sender, digits: Servable, requests: Path
) -> None:
    asked = Measure(BATCHES, None, 0.5, callers=8)
    found, _ = block(local, sender, digits, requests, asked)
    assert max(found.service.batches) == 4
    assert found.service.mean_batch > 1.5


def test_of_an_open_loop_as_many_are_due_as_asked(
    local: Local, sender: Sender, digits: Servable, requests: Path
) -> None:
    found, _ = block(local, sender, digits, requests, Measure(ONE, 100.0, 1.0))
    # Poisson's standard deviation is 10.
    assert 40 <= found.sent <= 160


def test_only_so_many_candidates_stay_loaded(local: Local, digits: Servable) -> None:
    for delay in range(MOST_LOADED + 1):
        local.load(digits, Candidate("onnxruntime", 1, 1, 2, delay))
    assert local.lost() == ""
    counted = [local.counters(f"digits.onnxruntime-1x1-b2-d{d}") for d in (1, MOST_LOADED)]
    assert [one.rows > 0 for one in counted] == [True, True]
    with pytest.raises(ServeError, match="onnxruntime-1x1-b2-d0"):
        local.counters("digits.onnxruntime-1x1-b2-d0")


def test_what_triton_refuses_is_a_problem_of_the_candidate(
    local: Local, sender: Sender, digits: Servable, requests: Path
) -> None:
    broken = Servable(
        "broken",
        {"onnxruntime": {**digits.configs["onnxruntime"], "default_model_filename": "no.onnx"}},
        digits.folders,
    )
    found, _ = block(local, sender, broken, requests, Measure(ONE, None, 0.2, callers=1))
    assert "no.onnx" in found.problem
    assert found.completed == 0
    again, _ = block(local, sender, digits, requests, Measure(ONE, None, 0.2, callers=1))
    assert again.problem == ""


@pytest.mark.parametrize("victim", ["triton", "stub"])
def test_a_triton_that_dies_meanwhile_is_started_again_and_the_block_repeated(
    victim: str, local: Local, sender: Sender, digits: Servable, requests: Path
) -> None:
    killed: list[int] = []

    class Killing(Sender):
        """Sends as `sender`; before its first block the victim is killed."""

        pid = sender.pid

        def __init__(self) -> None:
            pass

        def send(self, order: Any) -> Any:
            if not killed:
                killed.append(local.pid if victim == "triton" else stub_of(local.pid))
                os.kill(killed[0], signal.SIGKILL)
            return sender.send(order)

    found, said = block(local, Killing(), digits, requests, Measure(ONE, None, 0.3, callers=1))
    assert found.completed > 0
    assert found.failed == 0
    assert [line for line in said if line.endswith("measuring again")]


def stub_of(triton: int) -> int:
    """The process id of a living Python stub of Triton."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        if name == "triton_python_b" and int(rest.split()[1]) == triton and rest.split()[0] != "Z":
            return int(stat.parent.name)
    raise AssertionError("no stub")


def test_a_rate_that_the_client_cannot_send_is_told(
    local: Local, sender: Sender, digits: Servable, requests: Path
) -> None:
    found, _ = block(local, sender, digits, requests, Measure(ONE, 500_000.0, 0.3))
    assert found.doubt.startswith("the client is the limit")


def test_a_triton_elsewhere_is_given_configs_and_gets_its_own_back(
    triton: StartTriton, built: Workplace, sender: Sender, requests: Path
) -> None:
    server = triton(built.out / "cpu", models=["digits"])
    with Remote(server.grpc_url) as remote:
        model = remote.servable("digits")
        before = model.configs
        found, _ = block(remote, sender, model, requests, Measure(BATCHES, None, 0.5, callers=8))
        assert found.problem == ""
        assert max(found.service.batches) == 4
        assert found.cpu_s is None
        assert remote.servable("digits").configs != before
    with Remote(server.grpc_url) as remote:
        assert remote.servable("digits").configs == before


def test_a_triton_that_takes_no_loads_is_refused_with_what_to_do(
    triton: StartTriton, built: Workplace
) -> None:
    server = triton(built.out / "cpu")
    with Remote(server.grpc_url) as remote:
        model = remote.servable("digits")
        with pytest.raises(ServeError, match="--model-control-mode=explicit"):
            remote.load(model, BATCHES)


def test_nobody_at_an_address_is_one_line() -> None:
    with pytest.raises(ServeError, match="the Triton at 127.0.0.1:9: "):
        Remote("127.0.0.1:9").servable("digits")
