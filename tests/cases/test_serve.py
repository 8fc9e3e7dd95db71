"""Serving with a genuine Triton: what the backends answer, and how the server lives and ends."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triton_models as models
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from repo_builder import serve
from repo_builder.base.errors import MissingExtra, ServeError, UsageError
from repo_builder.serve import install

ONE_THREAD = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
# A run starts when it is full, so the long delay is not waited for.
FOUR_AT_ONCE = "dynamic_batching { max_queue_delay_microseconds: 10000000 }"


def infer(
    client: InferenceServerClient, model: str, outputs: list[str] | None = None, **arrays: Any
) -> dict[str, np.ndarray]:
    inputs = []
    for name, array in arrays.items():
        inputs.append(InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    wanted = None if outputs is None else [InferRequestedOutput(name) for name in outputs]
    result = client.infer(model, inputs, outputs=wanted, client_timeout=30)
    return {tensor.name: result.as_numpy(tensor.name) for tensor in result.get_response().outputs}


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What the calls, made together, return or raise."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.exception() or future.result() for future in futures]


def may_be_empty(types: Iterable[str]) -> str:
    names = json.dumps(json.dumps([f"in_{name}" for name in types]))
    return f'parameters {{ key: "repo_builder.may_be_empty" value {{ string_value: {names} }} }}'


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository") / "models"
    batching = {"max_batch_size": 4, "more": FOUR_AT_ONCE + ONE_THREAD}
    models.add(folder, "counting", models.counting(), **batching)
    models.add(
        folder,
        "counting-openvino",
        models.counting(),
        backend="openvino",
        max_batch_size=4,
        more=FOUR_AT_ONCE,
    )
    models.add(folder, "lookup", models.lookup(), **batching)
    models.add(folder, "lookup-alone", models.lookup(), max_batch_size=4)
    models.add(folder, "first", models.first(), **batching)
    models.add(folder, "half", models.half(), **batching)
    models.add(folder, "greeting", models.greeting(), max_batch_size=4)
    models.add(folder, "echo", models.echo(), more=may_be_empty(models.ECHOED))
    models.add(
        folder,
        "echo-openvino",
        models.echo(models.OPENVINO_ECHOED),
        backend="openvino",
        more=may_be_empty(models.OPENVINO_ECHOED),
    )
    models.add(
        folder, "optional", models.optional(), replace=("dims: [1] }", "dims: [1] optional: true }")
    )
    models.add(folder, "scalars", models.scalars())
    return folder


@pytest.fixture(scope="module")
def client(module_triton: StartTriton, repository: Path) -> Iterator[InferenceServerClient]:
    server = module_triton(repository)
    with InferenceServerClient(server.grpc_url) as client:
        yield client


@pytest.mark.parametrize("model", ["counting", "counting-openvino"])
def test_requests_that_arrive_together_share_one_run(
    client: InferenceServerClient, model: str
) -> None:
    inputs = [np.full((1, 3), i, np.float32) for i in range(4)]
    answers = at_once([lambda x=x: infer(client, model, x=x) for x in inputs])
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * x)
        np.testing.assert_array_equal(answer["rows"], [[4]])


def test_bfloat16_goes_in_and_out(client: InferenceServerClient) -> None:
    def ask(x: np.ndarray) -> dict[str, np.ndarray]:
        tensor = InferInput("x", list(x.shape), "BF16")
        tensor.set_data_from_numpy(x)
        result = client.infer("half", [tensor], client_timeout=30)
        return {name: result.as_numpy(name) for name in ("y", "rows")}

    # Each has at most eight significant bits, so that doubling in bfloat16 is exact.
    inputs = [np.float32([[i, -1.5 * 2.0**i, 1e-3]]) for i in range(4)]
    inputs = [(x.view(np.uint32) & 0xFFFF0000).view(np.float32) for x in inputs]
    answers = at_once([lambda x=x: ask(x) for x in inputs])
    assert not isinstance(answers[0], Exception), answers[0]
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * x)
        np.testing.assert_array_equal(answer["rows"], [[4]])


def test_requests_of_several_rows_get_their_own_back(client: InferenceServerClient) -> None:
    inputs = [np.arange(9, dtype=np.float32).reshape(3, 3), np.full((1, 3), 7, np.float32)]
    answers = at_once([lambda x=x: infer(client, "counting", x=x) for x in inputs])
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * x)
        assert answer["rows"].tolist() == [[4]] * len(x)


def test_a_bad_request_does_not_fail_its_neighbours(client: InferenceServerClient) -> None:
    rows = [0, 99, 2, 3]
    answers = at_once(
        [lambda i=i: infer(client, "lookup", x=np.array([[i]], np.int64)) for i in rows]
    )
    assert isinstance(answers[1], InferenceServerException)
    assert "out of data bounds" in str(answers[1])
    assert [answers[i]["found"].tolist() for i in (0, 2, 3)] == [[[10.0]], [[12.0]], [[13.0]]]


def test_a_model_that_mixes_rows_is_not_joined(client: InferenceServerClient) -> None:
    answers = at_once(
        [
            lambda i=i: infer(client, "first", x=np.array([[i]], np.float32))
            for i in (1, 10, 100, 1000)
        ]
    )
    assert [answer["first"].item() for answer in answers] == [1, 10, 100, 1000]


def test_each_request_gets_only_the_outputs_it_asked_for(client: InferenceServerClient) -> None:
    x = np.float32([[1]])
    wanted = [["y"], ["rows"], ["rows", "y"], ["y"]]
    answers = at_once([lambda w=w: infer(client, "counting", w, x=x) for w in wanted])
    assert [sorted(answer) for answer in answers] == [sorted(names) for names in wanted]
    assert answers[1]["rows"].item() == 4


def test_strings(client: InferenceServerClient) -> None:
    names = np.array([["wörld".encode()], [b""]], np.object_)
    answer = infer(client, "greeting", name=names)["greeting"]
    assert answer.tolist() == [["hello wörld".encode()], [b"hello "]]


def test_strings_that_are_not_utf8_are_refused(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="input 'name' holds bytes that are not UTF"):
        infer(client, "greeting", name=np.array([[b"\xff"]], np.object_))


@pytest.mark.parametrize(
    ("model", "types"), [("echo", models.ECHOED), ("echo-openvino", models.OPENVINO_ECHOED)]
)
@pytest.mark.parametrize("length", [0, 1, 3])
def test_every_type_and_tensors_that_may_be_empty(
    client: InferenceServerClient, model: str, types: Iterable[str], length: int
) -> None:
    inputs = {name: np.arange(length).astype(name) for name in types}
    answer = infer(client, model, **{f"in_{name}": array for name, array in inputs.items()})
    for name, array in inputs.items():
        assert answer[f"out_{name}"].dtype == array.dtype
        np.testing.assert_array_equal(answer[f"out_{name}"], array[::-1])


@pytest.mark.parametrize("model", ["counting", "counting-openvino"])
def test_a_size_of_0_that_nobody_has_tried_is_refused(
    client: InferenceServerClient, model: str
) -> None:
    what = r"input 'x' has the shape \[1, 0\]: the model was not verified with .* size 0"
    with pytest.raises(InferenceServerException, match=what):
        infer(client, model, x=np.zeros((1, 0), np.float32))


def spent(client: InferenceServerClient, model: str) -> int:
    """Nanoseconds that the model has run."""
    (found,) = client.get_inference_statistics(model).model_stats
    return int(found.inference_stats.compute_infer.ns)


LONG = {"x": np.float32([1]), "turns": np.int64([6000])}
SHORT = {"x": np.float32([7]), "turns": np.int64([1])}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_requests_that_were_cancelled_while_they_waited_are_not_run(
    triton: StartTriton, tmp_path: Path, backend: str
) -> None:
    models.add(tmp_path, "looping", models.looping(), backend=backend, more=ONE_THREAD)
    server = triton(tmp_path)
    with InferenceServerClient(server.grpc_url) as client:
        infer(client, "looping", **LONG)
        once = spent(client, "looping")
        inputs = [InferInput("x", [1], "FP32"), InferInput("turns", [1], "INT64")]
        for tensor, value in zip(inputs, LONG.values(), strict=True):
            tensor.set_data_from_numpy(value)

        def ignore(result: Any, error: Any) -> None:
            pass

        calls = [client.async_infer("looping", inputs, callback=ignore) for _ in range(7)]
        assert wait_until(lambda: pending({"metrics": server.metrics_url}) == 6, 10)
        for call in calls[1:]:
            call.cancel()
        assert infer(client, "looping", **SHORT)["y"] == [7]
        assert spent(client, "looping") < 4 * once  # 8 times where all run


def test_requests_whose_time_is_over_leave_the_queue(triton: StartTriton, tmp_path: Path) -> None:
    """With the queue policy that `build` writes; Triton alone does so where it batches."""
    policy = "allow_timeout_override: true default_timeout_microseconds: 3600000000"
    models.add(
        tmp_path,
        "counting",
        models.counting(),
        max_batch_size=4,
        more=f"{FOUR_AT_ONCE.rstrip(' }')} default_queue_policy {{ {policy} }} }}",
    )
    server = triton(tmp_path)
    with InferenceServerClient(server.grpc_url) as client:
        x = InferInput("x", [1, 1], "FP32")
        x.set_data_from_numpy(np.float32([[1]]))
        with pytest.raises(InferenceServerException, match="Request timeout expired"):
            client.infer("counting", [x], timeout=50_000, client_timeout=30)


def test_optional_inputs(client: InferenceServerClient) -> None:
    x = np.array([1, 2], np.float32)
    assert infer(client, "optional", x=x)["y"].tolist() == [101, 102]
    assert infer(client, "optional", x=x, bias=np.float32([5]))["y"].tolist() == [6, 7]


def test_scalars_are_dims_of_one(client: InferenceServerClient) -> None:
    answer = infer(client, "scalars", x=np.float32([1, 2]), factor=np.float32([3]))
    assert answer["total"].tolist() == [9]


def stubs_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


def test_instances_and_threads_are_those_of_the_config(triton: StartTriton, tmp_path: Path) -> None:
    more = "instance_group [{{ kind: KIND_CPU count: 2 }}]\n" + ONE_THREAD.replace('"1"', '"{}"')
    threads = {}
    for count in (1, 4):
        folder = tmp_path / str(count)
        models.add(
            folder,
            "counting",
            models.counting(),
            max_batch_size=4,
            more=more.replace("{{", "{").replace("}}", "}").replace("{}", str(count)),
        )
        server = triton(folder)
        stubs = stubs_of(server.pid)
        assert len(stubs) == 2
        threads[count] = [len(list(Path(f"/proc/{stub}/task").iterdir())) for stub in stubs]
        assert f"intra_op_num_threads {count}" in server.log.read_text()
    # ONNX Runtime's pool has one thread less than asked for: the caller is the other one.
    assert [four - one for one, four in zip(threads[1], threads[4], strict=True)] == [3, 3]


def test_openvino_parameters_are_applied(triton: StartTriton, tmp_path: Path) -> None:
    settings = {
        "TARGET_DEVICE": "CPU",
        "INFERENCE_NUM_THREADS": "1",
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "throughput",
        "RESHAPE_IO_LAYERS": "YES",
    }
    more = "\n".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in settings.items()
    )
    replace = ("dims: [-1, -1]", "dims: [-1, 3]")
    models.add(
        tmp_path, "counting", models.counting(), backend="openvino", more=more, replace=replace
    )
    server = triton(tmp_path)
    assert "CPU, INFERENCE_NUM_THREADS 1, NUM_STREAMS 1" in server.log.read_text()
    with InferenceServerClient(server.grpc_url) as client:
        answer = infer(client, "counting", x=np.float32([[1, 2, 3], [4, 5, 6]]))
    assert answer["y"].tolist() == [[2, 4, 6], [8, 10, 12]]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("HINT_BF16", "NO", "expected the parameter 'HINT_BF16' to be YES, got no"),
        ("PERFORMANCE_HINT", "FAST", "to be LATENCY/THROUGHPUT/CUMULATIVE_THROUGHPUT, got fast"),
        ("NUM_STREAMS", "many", "'NUM_STREAMS' to be either AUTO/NUMA/<int_value>, got many"),
        ("NUM_STREAMS", "99999999999", "'NUM_STREAMS' is '99999999999', which does not fit 32"),
        ("INFERENCE_NUM_THREADS", "2.5", "to be a non-negative number, got 2.5"),
        ("ENABLE_BATCH_PADDING", "YES", "ENABLE_BATCH_PADDING needs Triton's C"),
        ("TARGET_DEVICE", "NPU", "counting: Internal: RuntimeError: Exception from"),
    ],
)
def test_openvino_parameters_that_cannot_be_are_refused(
    triton: StartTriton, tmp_path: Path, key: str, value: str, reason: str
) -> None:
    more = f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
    models.add(tmp_path, "counting", models.counting(), backend="openvino", more=more)
    with pytest.raises(ServeError, match=reason) as failure:
        triton(tmp_path)
    shutil.rmtree(Path(str(failure.value).splitlines()[0].rpartition(" ")[2]).parent)


def test_defaults_are_those_of_the_cpp_backend(triton: StartTriton, tmp_path: Path) -> None:
    models.add(
        tmp_path,
        "counting",
        models.counting(),
        max_batch_size=4,
        replace=("instance_group [{ kind: KIND_CPU count: 1 }]", ""),
    )
    server = triton(tmp_path)
    assert len(stubs_of(server.pid)) == 2
    assert "intra_op_num_threads 0" in server.log.read_text()


def test_warmup_is_answered_before_ready(triton: StartTriton, tmp_path: Path) -> None:
    warmup = (
        'model_warmup [{ name: "one" batch_size: 1 inputs { key: "x" value '
        "{ data_type: TYPE_FP32 dims: [2] zero_data: true } } }]"
    )
    models.add(tmp_path, "counting", models.counting(), max_batch_size=4, more=warmup)
    server = triton(tmp_path, extra=["--log-verbose=1"])
    assert "model 'counting' instance counting_0_0 is running warmup sample 'one'" in (
        server.log.read_text()
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("backend:", "bakend:"), 'has no field named "bakend"'),
        (('"y"', '"z"'), "unexpected inference output 'z', allowed outputs are: rows, y"),
        (("TYPE_FP32", "TYPE_FP16"), "datatype TYPE_FP16 for input 'x', model provides TYPE_FP32"),
        (
            ("dims: [-1]", "dims: [-1, 2]"),
            r"model expects 2 dimensions \(shape \[-1,-1\]\) but the model configuration",
        ),
        (
            ("input [{", 'input [{ name: "x" data_type: TYPE_FP32 dims: [-1] }, {'),
            "configuration expects 2 inputs, model provides 1",
        ),
        (("TYPE_FP32", "TYPE_BF16"), "datatype TYPE_BF16 for input 'x', model provides TYPE_FP32"),
        (('"onnxruntime"', '"onnxruntme"'), "unable to find backend library"),
        (("count: 1", "count: 1 gpus: [0]"), "counting"),
        (("KIND_CPU", "KIND_GPU"), "counting"),
        (
            ("instance_group", "model_transaction_policy { decoupled: true }\ninstance_group"),
            "a decoupled model",
        ),
        (
            (
                "instance_group",
                'parameters { key: "intra_op_thread_count" '
                'value { string_value: "two" } }\ninstance_group',
            ),
            "failed to convert 'two' to integral number",
        ),
    ],
)
def test_a_failed_start_shows_tritons_own_words(
    triton: StartTriton, tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    models.add(tmp_path, "counting", models.counting(), max_batch_size=4, replace=change)
    with pytest.raises(ServeError, match=f"(?s)Triton did not start.*{reason}") as failure:
        triton(tmp_path)
    log = Path(str(failure.value).splitlines()[0].rpartition(" ")[2])
    assert log.is_file()
    shutil.rmtree(log.parent)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with two quick models, as repo-builder build lays it out."""
    models.add(tmp_path / "models", "counting", models.counting(), max_batch_size=4)
    models.add(tmp_path / "models", "greeting", models.greeting(), max_batch_size=4)
    return tmp_path


def test_two_servers_at_once(triton: StartTriton, small: Path) -> None:
    servers = [triton(small), triton(small)]
    assert servers[0].grpc_url != servers[1].grpc_url
    for server in servers:
        with InferenceServerClient(server.grpc_url) as client:
            assert infer(client, "counting", x=np.float32([[4]]))["y"].item() == 8


def test_a_path_may_have_any_name(triton: StartTriton, tmp_path: Path) -> None:
    odd = tmp_path / "it's $HOME; a build"
    models.add(odd, "counting", models.counting(), max_batch_size=4)
    server = triton(odd)
    with InferenceServerClient(server.grpc_url) as client:
        assert infer(client, "counting", x=np.float32([[4]]))["y"].item() == 8


def test_a_stub_that_cannot_start_is_not_waited_for(
    triton: StartTriton, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = small / "broken"
    broken.mkdir()
    (broken / "bash").write_text("#!/bin/sh\necho 'bash: no stub today' >&2\n")
    (broken / "bash").chmod(0o755)
    real = install.Install.environment
    monkeypatch.setattr(
        install.Install,
        "environment",
        lambda self: {**real(self), "PATH": f"{broken}:{real(self)['PATH']}"},
    )
    with pytest.raises(
        ServeError, match=r"(?s)could not start the Python stub.*no stub today"
    ) as e:
        triton(small)
    shutil.rmtree(Path(str(e.value).splitlines()[0].rpartition(" ")[2]).parent)


def test_ready_is_every_service_that_is_on(triton: StartTriton, small: Path) -> None:
    with urllib.request.urlopen(triton(small).metrics_url) as answer:  # noqa: S310
        assert b"nv_inference_count" in answer.read()
    without = triton(small, extra=["--allow-metrics", "false"])
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(without.metrics_url)  # noqa: S310


def test_a_triton_that_may_not_tell_when_it_is_ready(triton: StartTriton, small: Path) -> None:
    with pytest.raises(ServeError, match="forbids /v2/repository/index.*restricted-api") as error:
        triton(small, extra=["--http-restricted-api=model-repository:key=secret"])
    shutil.rmtree(Path(str(error.value).rpartition(" ")[2]).parent)
    with pytest.raises(UsageError, match="--allow-http cannot be off"):
        triton(small, extra=["--allow-http=false"])


def test_explicit_control_loads_only_what_it_is_told(triton: StartTriton, small: Path) -> None:
    server = triton(small, models=["greeting"])
    with InferenceServerClient(server.grpc_url) as client:
        assert client.is_model_ready("greeting")
        assert not client.is_model_ready("counting")
        client.load_model("counting")
        assert infer(client, "counting", x=np.float32([[4]]))["y"].item() == 8


def test_a_config_by_name(triton: StartTriton, small: Path) -> None:
    folder = small / "models" / "counting"
    text = (folder / "config.pbtxt").read_text()
    (folder / "configs").mkdir()
    (folder / "configs" / "wide.pbtxt").write_text(
        text.replace("max_batch_size: 4", "max_batch_size: 64")
    )
    server = triton(small, config_name="wide")
    with InferenceServerClient(server.grpc_url) as client:
        assert client.get_model_config("counting").config.max_batch_size == 64
        assert client.get_model_config("greeting").config.max_batch_size == 4


def test_what_cannot_be_served_is_said_at_once(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="nowhere: no such folder; build it first"):
        serve.Triton(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServeError, match="empty: no models in it"):
        serve.Triton(tmp_path / "empty")
    with pytest.raises(ServeError, match=r"(?s)no such model.*gretting; did you mean 'greeting'"):
        serve.Triton(small, models=["gretting"])
    with pytest.raises(ServeError, match="no Triton there; give the folder that holds bin/"):
        serve.Triton(small, triton=tmp_path)


def test_a_taken_port_is_named(small: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ServeError, match=f"127.0.0.1:{port} for grpc: Address already in use.*--grpc-port"
        ):
            serve.Triton(small, grpc_port=port)


FREE_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]


@pytest.fixture
def command(
    unavailable: Callable[[str], Any],
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, Any]]]]:
    """`command(repository, *more)` runs `repo-builder serve`: its process and its endpoints."""
    if install_missing():
        unavailable("no Triton")
    started: list[subprocess.Popen[str]] = []

    def start(repository: Path, *more: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        words = ["serve", str(repository), "--json", *FREE_PORTS, *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "repo_builder", *words], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        return process, json.loads("".join(lines))

    yield start
    for process in started:
        process.kill()
        process.communicate()


def install_missing() -> bool:
    try:
        install.find()
    except MissingExtra:
        return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


def gone(pids: list[int]) -> bool:
    """Whether these processes have ended; one that nobody reaped has."""
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            return False
    return True


def pending(endpoints: Mapping[str, str]) -> int:
    with urllib.request.urlopen(endpoints["metrics"]) as answer:  # noqa: S310
        text = answer.read().decode()
    found = re.findall(r"^nv_inference_pending_request_count\{.*\} (\d+)", text, re.MULTILINE)
    return sum(map(int, found))


def shared_memory_of(pid: int) -> set[str]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"/dev/shm/triton\S+region\S+", maps))  # noqa: S108


def test_serve_says_four_lines(unavailable: Callable[[str], Any], tmp_path: Path) -> None:
    """What it serves, where its log is, and three addresses: data, so all of it on stdout."""
    if install_missing():
        unavailable("no Triton")
    models.add(tmp_path, "counting", models.counting(), max_batch_size=4)
    words = [sys.executable, "-m", "repo_builder", "serve", str(tmp_path), *FREE_PORTS]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first, *addresses = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        more, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    kinds = (r"http     http://127\.0\.0\.1:\d+", r"grpc     127\.0\.0\.1:\d+",
             r"metrics  http://127\.0\.0\.1:\d+/metrics")  # fmt: skip
    for line, kind in zip(addresses, kinds, strict=True):
        assert re.fullmatch(kind + r"\n", line)
    assert more == ""
    serving = rf"serving {re.escape(str(tmp_path))}\S*; log: \S+; Ctrl-C stops\n"
    assert re.fullmatch(serving, first)
    assert said.splitlines() == ["draining; Ctrl-C again stops at once", "stopped"]


def test_ctrl_c_lets_requests_in_flight_end_and_leaves_nothing(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    models.add(
        tmp_path,
        "counting",
        models.counting(),
        max_batch_size=4,
        more="dynamic_batching { max_queue_delay_microseconds: 3000000 }",
    )
    process, endpoints = command(tmp_path)
    children = [endpoints["pid"], *stubs_of(endpoints["pid"])]
    with (
        InferenceServerClient(endpoints["grpc"]) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(infer, client, "counting", x=np.float32([[21]]))
        assert wait_until(lambda: pending(endpoints) == 1, 10)
        process.send_signal(signal.SIGINT)
        assert waiting.result()["y"].item() == 42
    assert process.wait(timeout=30) == 0
    assert gone(children)
    assert not Path(endpoints["log"]).parent.exists()


def test_a_second_ctrl_c_ends_at_once(command: Callable[..., Any], tmp_path: Path) -> None:
    models.add(
        tmp_path,
        "counting",
        models.counting(),
        max_batch_size=4,
        more="dynamic_batching { max_queue_delay_microseconds: 30000000 }",
    )
    process, endpoints = command(tmp_path)
    children = [endpoints["pid"], *stubs_of(endpoints["pid"])]
    with InferenceServerClient(endpoints["grpc"]) as client:
        x = InferInput("x", [1, 1], "FP32")
        x.set_data_from_numpy(np.float32([[1]]))
        client.async_infer("counting", [x], callback=lambda *_: None)
        assert wait_until(lambda: pending(endpoints) == 1, 10)
        process.send_signal(signal.SIGTERM)
        log = Path(endpoints["log"])
        regions = shared_memory_of(endpoints["pid"])
        assert regions
        assert wait_until(lambda: "Waiting for in-flight requests" in log.read_text(), 10)
        try:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # so soon that it counted as one with the SIGTERM
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    assert wait_until(lambda: gone(children), 5)
    assert not any(map(os.path.exists, regions))


def test_nothing_outlives_a_parent_that_is_killed(command: Callable[..., Any], small: Path) -> None:
    process, endpoints = command(small)
    children = [endpoints["pid"], *stubs_of(endpoints["pid"])]
    assert len(children) == 3
    process.kill()
    assert wait_until(lambda: gone(children), 10)
    shutil.rmtree(Path(endpoints["log"]).parent)


def answers(endpoints: Mapping[str, str], value: float) -> bool:
    with InferenceServerClient(endpoints["grpc"]) as client:
        try:
            return bool(infer(client, "counting", x=np.float32([[value]]))["y"].item() == 2 * value)
        except InferenceServerException:
            return False


def stub_of(triton: int, model: str) -> int:
    (stub,) = (
        pid for pid in stubs_of(triton) if f"/{model}/" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    return stub


def test_a_model_whose_process_was_killed_is_loaded_again(
    command: Callable[..., Any], small: Path
) -> None:
    _, endpoints = command(small, "--model", "*")
    other = stub_of(endpoints["pid"], "greeting")
    for number in range(2):
        killed = stub_of(endpoints["pid"], "counting")
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda killed=killed: gone_from(endpoints["pid"], killed), 10)
        assert wait_until(lambda number=number: answers(endpoints, number + 1), 10)
    assert stub_of(endpoints["pid"], "greeting") == other


def test_a_triton_that_takes_no_loads_is_started_again(
    command: Callable[..., Any], small: Path
) -> None:
    _, endpoints = command(small)
    os.kill(stub_of(endpoints["pid"], "counting"), signal.SIGKILL)
    assert wait_until(lambda: gone([endpoints["pid"]]), 10)
    assert wait_until(lambda: answers(endpoints, 3), 20)


def gone_from(triton: int, stub: int) -> bool:
    return stub not in stubs_of(triton)


def test_a_triton_that_dies_is_reported(command: Callable[..., Any], small: Path) -> None:
    process, endpoints = command(small)
    os.kill(endpoints["pid"], signal.SIGKILL)
    assert process.wait(timeout=15) == ServeError.exit_code
    shutil.rmtree(Path(endpoints["log"]).parent)
