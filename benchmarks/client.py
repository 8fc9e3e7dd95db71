"""The client SDK against plain tritonclient, a bare gRPC stub, and hand-written shared memory.

    python benchmarks/client.py             # the tables of docs/client.md, ~2 minutes
    python benchmarks/client.py --soak 100000

Genuine Triton, started here, with models of its Python backend that do next to nothing, so that
what is measured is the way there and back. Contenders take turns call by call (or run by run for
throughput), so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as tritonclient
import tritonclient.grpc.aio as tritonclient_aio
from tritonclient.grpc import service_pb2

from repo_builder.client import AsyncEdgeClient, EdgeClient, SharedMemory
from repo_builder.serve import Triton

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/cases"))
import client_models as models

INFER = "/inference.GRPCInferenceService/ModelInfer"
SMALL = np.random.default_rng(0).random((1, 64)).astype(np.float32)  # a digit
LARGE = np.random.default_rng(0).random((1, 3 * 640 * 640)).astype(np.float32)  # 4.9 MB

Call = Callable[[], Any]


class Plain:
    """tritonclient as its examples use it."""

    def __init__(self, url: str) -> None:
        self.client = tritonclient.InferenceServerClient(url)

    def call(self, x: Any, model: str = "big") -> Any:
        """One call."""
        given = tritonclient.InferInput("x", list(x.shape), "FP32")
        given.set_data_from_numpy(x)
        wanted = [tritonclient.InferRequestedOutput("y")]
        return self.client.infer(model, [given], outputs=wanted).as_numpy("y")


class HandWritten:
    """tritonclient with one region of shared memory, written for one tensor."""

    def __init__(self, url: str, x: Any) -> None:
        self.client = tritonclient.InferenceServerClient(url)
        self.name, size = f"bench-{os.getpid()}", 2 * x.nbytes
        self.path = Path("/dev/shm") / self.name  # noqa: S108
        file = os.open(self.path, os.O_CREAT | os.O_RDWR)
        os.ftruncate(file, size)
        memory = mmap.mmap(file, size)
        self.into = np.ndarray(x.shape, np.float32, memory, 0)
        self.out = np.ndarray(x.shape, np.float32, memory, x.nbytes)
        self.client.register_system_shared_memory(self.name, f"/{self.name}", size)

    def call(self, x: Any, model: str = "big") -> Any:
        """One call; the output too is in the region where it is as large as the input."""
        self.into[...] = x
        given = tritonclient.InferInput("x", list(x.shape), "FP32")
        given.set_shared_memory(self.name, x.nbytes)
        wanted = tritonclient.InferRequestedOutput("y")
        if model == "big":
            wanted.set_shared_memory(self.name, x.nbytes, offset=x.nbytes)
        answer = self.client.infer(model, [given], outputs=[wanted])
        return self.out.copy() if model == "big" else answer.as_numpy("y")

    def close(self) -> None:
        """Leave nothing behind."""
        self.client.unregister_system_shared_memory(self.name)
        self.path.unlink()


class Stub:
    """gRPC with nothing around it: the request is made once, the answer only parsed."""

    def __init__(self, url: str, x: Any) -> None:
        self.channel = grpc.insecure_channel(url)
        parse = service_pb2.ModelInferResponse.FromString
        self.stub = self.channel.unary_unary(INFER, None, parse)
        request = service_pb2.ModelInferRequest(model_name="big")
        request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        request.raw_input_contents.append(x.tobytes())
        self.request = request.SerializeToString()

    def call(self, x: Any) -> Any:
        """One call."""
        answer = self.stub(self.request, timeout=10.0)
        return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(x.shape)


def latencies(contenders: dict[str, Call], rounds: int) -> dict[str, float]:
    """The median of each, in microseconds, all taking turns in random order."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        for _ in range(30):
            call()
    names = list(contenders)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            start = time.perf_counter()
            contenders[name]()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1e6 for name, values in taken.items()}


def threaded(call: Call, calls: int, threads: int = 16) -> float:
    """Calls a second of `threads` threads, after some calls to warm up."""
    for _ in range(30):
        call()

    def work() -> None:
        for _ in range(calls // threads):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return calls / (time.perf_counter() - start)


def gathered(make: Callable[[], Any], calls: int, tasks: int = 16) -> float:
    """Calls a second of `tasks` asyncio tasks; `make` returns (call, close), both coroutines."""

    async def main() -> float:
        call, close = await make()

        for _ in range(30):
            await call()

        async def work() -> None:
            for _ in range(calls // tasks):
                await call()

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(tasks)))
        taken = time.perf_counter() - start
        await close()
        return calls / taken

    return asyncio.run(main())


def throughputs(contenders: Iterable[str], url: str, calls: int, runs: int) -> dict[str, float]:
    """The median of `runs` each, taking turns, each run in a process of its own.

    In one process they would disturb each other: gRPC's event loops, once started, slow down its
    blocking calls.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(taken)
    for _ in range(runs):
        random.shuffle(names)
        for name in names:
            command = [sys.executable, __file__, "--one", name, url, str(calls)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken[name].append(float(done.stdout))
    return {name: statistics.median(values) for name, values in taken.items()}


def table(title: str, figures: dict[str, float], base: str, unit: str) -> None:
    print(f"\n{title}\n\n| | {unit} | ratio |\n|---|---:|---:|")
    for name, value in figures.items():
        print(f"| {name} | {value:,.0f} | {value / figures[base]:.2f} |")


async def ours(url: str) -> Any:
    """AsyncEdgeClient's call, and how to close it."""
    client = AsyncEdgeClient(url)
    await client.infer("big", SMALL)

    async def call() -> Any:
        return (await client.infer("big", SMALL))["y"]

    return call, client.close


async def theirs(url: str) -> Any:
    """tritonclient.aio's call, and how to close it."""
    client = tritonclient_aio.InferenceServerClient(url)

    async def call() -> Any:
        given = tritonclient_aio.InferInput("x", list(SMALL.shape), "FP32")
        given.set_data_from_numpy(SMALL)
        return (await client.infer("big", [given])).as_numpy("y")

    return call, client.close


def plain_threads(url: str, calls: int) -> float:
    plain = Plain(url)
    return threaded(lambda: plain.call(SMALL), calls)


def stub_threads(url: str, calls: int) -> float:
    stub = Stub(url, SMALL)
    return threaded(lambda: stub.call(SMALL), calls)


def edge_threads(url: str, calls: int) -> float:
    with EdgeClient(url) as client:
        return threaded(lambda: client.infer("big", SMALL)["y"], calls)


def edge_many(url: str, calls: int) -> float:
    with EdgeClient(url) as client:
        client.infer_many("big", [SMALL] * 320)
        start = time.perf_counter()
        client.infer_many("big", [SMALL] * calls, concurrency=16)
        return calls / (time.perf_counter() - start)


AT_ONCE: dict[str, Callable[[str, int], float]] = {
    "tritonclient, 16 threads": plain_threads,
    "bare stub, 16 threads": stub_threads,
    "EdgeClient, 16 threads": edge_threads,
    "EdgeClient.infer_many(concurrency=16)": edge_many,
    "tritonclient.aio, 16 tasks": lambda url, calls: gathered(lambda: theirs(url), calls),
    "AsyncEdgeClient, 16 tasks": lambda url, calls: gathered(lambda: ours(url), calls),
}


def small(url: str, calls: int) -> None:
    plain, stub = Plain(url), Stub(url, SMALL)
    with EdgeClient(url) as client:
        figures = latencies(
            {
                "tritonclient": lambda: plain.call(SMALL),
                "bare stub": lambda: stub.call(SMALL),
                "EdgeClient": lambda: client.infer("big", SMALL)["y"],
            },
            calls // 3,
        )
    table("Small tensor (256 bytes), one caller: median latency", figures, "tritonclient", "µs")
    table(
        "Small tensor, 16 calls at once, one process: throughput",
        throughputs(AT_ONCE, url, calls, 9 if calls > 1000 else 1),
        "tritonclient, 16 threads",
        "calls/s",
    )


def fallback_off(url: str, rounds: int) -> None:
    x = np.array([[10, 0, 0, 1]], np.float32)
    with EdgeClient(url) as client:
        figures = latencies(
            {
                "model without a policy": lambda: client.infer("bare", x),
                "model with a policy, no cloud": lambda: client.infer("echo", x),
            },
            rounds,
        )
    with EdgeClient(url, cloud=url) as client:
        figures |= latencies(
            {"all rows sure, cloud given": lambda: client.infer("echo", x)}, rounds
        )
    table("Cost of the fallback where it is off", figures, "model without a policy", "µs")


def large(url: str, rounds: int) -> None:
    plain, hand = Plain(url), HandWritten(url, LARGE)
    with EdgeClient(url) as client:
        for model, what in (("head", "in, 40 bytes out"), ("big", "in and out")):
            figures = latencies(
                {
                    "tritonclient": lambda model=model: plain.call(LARGE, model),
                    "hand-written shared memory": lambda model=model: hand.call(LARGE, model),
                    "EdgeClient": lambda model=model: client.infer(model, LARGE)["y"],
                },
                rounds,
            )
            per_second = {name: 1e6 / value for name, value in figures.items()}
            title = f"4.9 MB {what}, same host, one caller: throughput"
            table(title, per_second, "tritonclient", "calls/s")
            ratio = per_second["EdgeClient"] / per_second["hand-written shared memory"]
            print(f"\nEdgeClient against hand-written shared memory: {ratio:.2f}")
    hand.close()


def crossover(url: str, rounds: int) -> None:
    print("\nWhere shared memory starts to pay (median latency in µs)\n")
    print("| input and output, each | wire | shared memory |\n|---:|---:|---:|")
    with (
        EdgeClient(url, shared_memory=SharedMemory(enabled=False)) as wire,
        EdgeClient(url, shared_memory=SharedMemory(minimum=1)) as shared,
    ):
        for kilobytes in (4, 16, 32, 64, 128, 256, 1024):
            x = np.zeros((1, kilobytes * 256), np.float32)
            figures = latencies(
                {
                    "wire": lambda x=x: wire.infer("big", x),
                    "shared": lambda x=x: shared.infer("big", x),
                },
                rounds,
            )
            print(f"| {kilobytes} KB | {figures['wire']:.0f} | {figures['shared']:.0f} |")


IMPORTS = """
import time
start = time.thread_time()
import tritonclient.grpc
middle = time.thread_time()
from repo_builder.client import EdgeClient
print(middle - start, time.thread_time() - middle)
"""


def imports() -> None:
    """The quickest of 9, in CPU milliseconds, with compiled bytecode there.

    Of the importing thread: gRPC's own threads are awake from its import on.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = []
    for _ in range(9):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS], env=environment, capture_output=True, check=True
        )
        runs.append([float(part) * 1e3 for part in done.stdout.split()])
    theirs, ours = (min(column) for column in zip(*runs, strict=True))
    print(f"\nImport: tritonclient.grpc {theirs:.0f} ms, repo_builder.client on top {ours:.0f} ms")


def soak(url: str, calls: int) -> None:
    """Memory and threads over many calls of all kinds; they must not grow."""
    print("\n| calls | resident MB | threads | descriptors |\n|---:|---:|---:|---:|")
    rng = np.random.default_rng(0)
    medium = rng.random((1, 64 * 1024)).astype(np.float32)
    first = 0.0
    with EdgeClient(url, cloud=url) as client:
        step = max(1, calls // 10)
        for number in range(calls + 1):
            if number % step == 0:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                megabytes = pages * resource.getpagesize() / 1e6
                if number == step:
                    first = megabytes
                descriptors = len(list(Path("/proc/self/fd").iterdir()))
                print(
                    f"| {number} | {megabytes:.1f} | {threading.active_count()} | {descriptors} |"
                )
            if number % 50 == 0:
                client.infer("big", medium)
            elif number % 10 == 0:
                client.infer_many("echo", [rng.random((4, 4)).astype(np.float32)] * 4)
            else:
                client.infer("echo", rng.random((4, 4)).astype(np.float32))
    print(f"\ngrowth after the first tenth: {megabytes - first:.1f} MB")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--soak", type=int, metavar="CALLS")
    options.add_argument("--quick", action="store_true", help="fewer calls: to see that it runs")
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        name, url, calls = chosen.one
        print(AT_ONCE[name](url, int(calls)))
        return
    few = 10 if chosen.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        models.big(repository)
        models.head(repository)
        models.echo(repository)
        models.echo(repository, "bare", policy=None)
        with Triton(repository) as server:
            if chosen.soak:
                soak(server.grpc_url, chosen.soak)
                return
            imports()
            small(server.grpc_url, 3200 // few)
            fallback_off(server.grpc_url, 1000 // few)
            large(server.grpc_url, 200 // few)
            crossover(server.grpc_url, 200 // few)


if __name__ == "__main__":
    main()
