"""Throughput of served models: our config, Triton's default, and the same sessions in-process.

    python benchmarks/serving.py [--seconds 5] [--rounds 3] [--json RESULT]

squeezenet and resnet50 from the `onnx` package (batch made dynamic) are built by repo-builder and
served by a genuine Triton; 1, 4 and 16 clients ask without pause, from a process of their own. All
figures are requests/s of batch 1; compare only within one run, whose rounds take turns.

Two placements. "every core": the clients share all cores with the server, as an application on the
device does, and take from it what they need themselves. "one core": Triton and its models, built
for a target with one core, have a core of their own, as the limit has; the clients have the others.
So the second says what serving itself costs. Exits with 1 where a wanted figure is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from repo_builder import serve
from repo_builder.base import console

CLIENTS = (1, 4, 16)
MODELS = ("squeezenet", "resnet50")
# What is served, and the fields that our config loses for it.
VARIANTS = {
    "Triton's default": ("instance_group", "parameters", "dynamic_batching"),
    "ours": (),
    "ours, no batching": ("dynamic_batching",),
}
# At 4 clients: placement, what is served, against what, at least how many times as fast.
WANTED = (
    ("every core", "ours", "Triton's default", 1.4),
    ("one core", "ours, shared memory", "in-process", 0.9),
)
SPEC = """name: {name}
version: 1.0.0
source: {{ onnx: {name}.onnx }}
targets: [cpu, one-core]
serving: {{ objective: throughput }}
"""
ONE_CORE = "extends: cpu\ncpu: { cores: 1 }\n"
Measure = Callable[[int, float], float]
"""Requests/s that so many clients get in so many seconds."""


@dataclass(frozen=True)
class Placement:
    """Who runs on which cores, what was built for the server's, and what is measured there."""

    title: str
    target: str
    server: Collection[int]
    clients: Collection[int]
    variants: Collection[str]


def placements() -> list[Placement]:
    """Both; the second needs two cores."""
    first, *others = cores = sorted(os.sched_getaffinity(0))
    shared = Placement("every core", "cpu", cores, cores, list(VARIANTS))
    apart = Placement("one core", "one-core", [first], others, ["ours"])
    return [shared, apart] if others else [shared]


@contextlib.contextmanager
def on(cores: Collection[int]) -> Iterator[None]:
    """Threads and processes that are started in here run on `cores` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def write_specs(folder: Path, models: Collection[str] = MODELS) -> None:
    """The models and their specs; a model's batch dimension is 1 in the package."""
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    for name in models:
        model = onnx.load(light / f"light_{name}.onnx")
        graph = model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in weights]
        del graph.input[:]
        graph.input.extend(inputs)
        for value in [*graph.input, *graph.output]:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        for node in graph.node:
            if node.op_type == "Reshape":
                shape = weights[node.input[1]]
                free = np.array([-1, *numpy_helper.to_array(shape)[1:]], np.int64)
                shape.CopyFrom(numpy_helper.from_array(free, shape.name))
        model.ir_version = 8  # since 4, weights need not be inputs
        onnx.save(model, folder / f"{name}.onnx")
        (folder / f"{name}.yaml").write_text(SPEC.format(name=name))


def write_variants(built: Path, variants: Collection[str], folder: Path) -> dict[str, Path]:
    """Repositories of the same model files, whose configs differ."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    repositories = {}
    for name in variants:
        repositories[name] = folder / name.replace(" ", "-")
        for model in built.iterdir():
            config = model_config_pb2.ModelConfig()
            text_format.Parse((model / "config.pbtxt").read_text(), config)
            for field in VARIANTS[name]:
                config.ClearField(field)
            target = repositories[name] / model.name
            target.mkdir(parents=True)
            (target / "config.pbtxt").write_text(text_format.MessageToString(config))
            for version in model.glob("[0-9]*"):
                (target / version.name).symlink_to(version.resolve())
    return repositories


def in_process(built: Path, model: str) -> Measure:
    """The limit: sessions as our config has instances, each used by one client at a time."""
    import onnxruntime as ort
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = model_config_pb2.ModelConfig()
    text_format.Parse((built / model / "config.pbtxt").read_text(), config)
    options = ort.SessionOptions()
    threads = config.parameters["intra_op_thread_count"].string_value
    options.intra_op_num_threads = int(threads)
    (file,) = (built / model).glob("*/model.onnx")
    free: queue.Queue[Any] = queue.Queue()
    for _ in range(config.instance_group[0].count):
        free.put(ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]))
    feeds = {config.input[0].name: np.zeros((1, *config.input[0].dims), np.float32)}

    def measure(clients: int, seconds: float) -> float:
        done = [0] * clients
        begun = time.perf_counter()
        end = begun + seconds

        def ask(client: int) -> None:
            while time.perf_counter() < end:
                session = free.get()
                session.run(None, feeds)
                free.put(session)
                done[client] += 1

        threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.perf_counter() - begun)

    return measure


def served(url: str, model: str, *, shared_memory: bool = False) -> Measure:
    """Requests/s of a server, asked by a process of its own."""
    how = "shared-memory" if shared_memory else "grpc"

    def measure(clients: int, seconds: float) -> float:
        words = [sys.executable, __file__, "--ask", url, model, how, str(clients), str(seconds)]
        return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    return measure


async def ask(url: str, model: str, how: str, clients: int, seconds: float) -> float:
    """Requests/s that `clients` coroutines get, each copying its input into every request."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.aio.insecure_channel(url, unlimited)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    about = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model))
    shape = [1, *about.inputs[0].shape[1:]]
    image = np.zeros(shape, np.float32)
    done = 0

    def request() -> Any:
        made = service_pb2.ModelInferRequest(model_name=model)
        made.inputs.add(name=about.inputs[0].name, datatype="FP32", shape=shape)
        return made

    async def by_grpc() -> None:
        nonlocal done
        content = image.tobytes()
        while time.perf_counter() < end:
            made = request()
            made.raw_input_contents.append(content)
            await stub.ModelInfer(made)
            done += 1

    async def by_shared_memory(region: shared_memory.SharedMemory) -> None:
        nonlocal done
        made = request()
        made.inputs[0].parameters["shared_memory_region"].string_param = region.name
        made.inputs[0].parameters["shared_memory_byte_size"].int64_param = image.nbytes
        there = np.ndarray(image.shape, image.dtype, region.buf)
        while time.perf_counter() < end:
            there[...] = image
            await stub.ModelInfer(made)
            done += 1

    with contextlib.ExitStack() as stack:
        regions = []
        for _ in range(clients if how == "shared-memory" else 0):
            region = shared_memory.SharedMemory(create=True, size=image.nbytes)
            stack.callback(region.unlink)
            await stub.SystemSharedMemoryRegister(
                service_pb2.SystemSharedMemoryRegisterRequest(
                    name=region.name, key=f"/{region.name}", byte_size=image.nbytes
                )
            )
            regions.append(region)
        begun = time.perf_counter()
        end = begun + seconds
        if regions:
            await asyncio.gather(*map(by_shared_memory, regions))
        else:
            await asyncio.gather(*(by_grpc() for _ in range(clients)))
        spent = time.perf_counter() - begun
    return done / spent


Results = dict[str, dict[str, dict[str, dict[int, list[float]]]]]
"""placement -> model -> what ran -> clients -> requests/s of each round."""


def build(work: Path, models: Collection[str] = MODELS) -> None:
    """Build the models into `work`/build, for a target with every core and one with one."""
    specs, devices = work / "specs", work / "devices"
    specs.mkdir()
    devices.mkdir()
    write_specs(specs, models)
    (devices / "one-core.yaml").write_text(ONE_CORE)
    words = ["build", str(specs), "--out", str(work / "build"), "--store", str(work / "store")]
    words += ["--targets-dir", str(devices), "--no-images"]
    subprocess.run([sys.executable, "-m", "repo_builder", *words], check=True)


def run(seconds: float, rounds: int, work: Path) -> Results:
    """Build for every placement, and measure each in every round."""
    build(work)
    results: Results = {}
    for placement in placements():
        built = work / "build" / placement.target / "models"
        repositories = write_variants(built, placement.variants, work / placement.target)
        here = results.setdefault(placement.title, {})
        for _ in range(rounds):
            for model, what, measure in measures(placement, built, repositories):
                for clients in CLIENTS:
                    found = measure(clients, seconds)
                    here.setdefault(model, {}).setdefault(what, {}).setdefault(clients, [])
                    here[model][what][clients].append(found)
                    title = f"{placement.title}, {model}, {what}, {clients} clients"
                    console.say(f"{title}: {found:.1f}/s")
    return results


def measures(
    placement: Placement, built: Path, repositories: dict[str, Path]
) -> Iterator[tuple[str, str, Measure]]:
    """What is measured in one round: the model, what runs, and how to measure it meanwhile."""

    def placed(measure: Measure, cores: Collection[int]) -> Measure:
        def inside(clients: int, seconds: float) -> float:
            with on(cores):
                return measure(clients, seconds)

        return inside

    for model in MODELS:
        yield model, "in-process", placed(in_process(built, model), placement.server)
    for what, repository in repositories.items():
        for model in MODELS:
            with contextlib.ExitStack() as stack:
                with on(placement.server):
                    server = serve.Triton(repository, models=[model], timeout_s=120)
                    stack.enter_context(server)
                asked = served(server.grpc_url, model)
                yield model, what, placed(asked, placement.clients)
                if what == "ours":
                    asked = served(server.grpc_url, model, shared_memory=True)
                    yield model, "ours, shared memory", placed(asked, placement.clients)


def medians(results: Results) -> dict[str, dict[str, dict[str, dict[int, float]]]]:
    """Over the rounds."""
    return {
        placement: {
            model: {
                what: {n: statistics.median(found) for n, found in per.items()}
                for what, per in measured.items()
            }
            for model, measured in models.items()
        }
        for placement, models in results.items()
    }


def summary(results: Results) -> list[list[str]]:
    """Rows: medians over the rounds, and ours against the default and the limit at 4 clients."""
    rows = []
    for placement, models in medians(results).items():
        for model, median in models.items():
            for what, per in median.items():
                against = [
                    f"{per[4] / median[base][4]:.2f}" if base in median else ""
                    for base in ("Triton's default", "in-process")
                ]
                figures = [f"{per[n]:.1f}" for n in CLIENTS]
                rows.append([placement, model, what, *figures, *against])
    return rows


def missed(results: Results) -> list[str]:
    """Which of the wanted figures were not reached."""
    return [
        f"{placement}, {model}, {what}: {ratio:.2f}x {base}, wanted {least}x"
        for placement, what, base, least in WANTED
        for model, median in medians(results).get(placement, {}).items()
        if (ratio := median[what][4] / median[base][4]) < least
    ]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ask", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        url, model, how, clients, seconds = arguments.ask
        print(asyncio.run(ask(url, model, how, int(clients), float(seconds))))
        return
    with tempfile.TemporaryDirectory() as work:
        results = run(arguments.seconds, arguments.rounds, Path(work))
    header = [
        "placement",
        "model",
        "what",
        *(f"{n} clients" for n in CLIENTS),
        "x default",
        "x in-process",
    ]
    console.out(console.table(header, summary(results), right=range(3, 8)))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    if short := missed(results):
        sys.exit(f"missed: {'; '.join(short)}")


if __name__ == "__main__":
    main()
