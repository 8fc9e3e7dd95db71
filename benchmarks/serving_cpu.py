"""What serving costs: CPU time of server and client for each image, against the same session alone.

    python benchmarks/serving_cpu.py [--rounds 15] [--images 20]

squeezenet (602 KB in) is built by repo-builder and served by a genuine Triton, through our
Python-based backend. One caller asks through the client SDK, over gRPC and through shared memory.
CPU time is user and system time of the caller, of Triton and of the processes that it runs; the
four take turns in every round, and the ratios are medians over the rounds. The limit is the
session with the same threads in this process. "in-process + ServerLive" adds the smallest call
that gRPC has, made by the bare stub after each image: what any server costs on this machine before
an image has moved. Exits with 1 where a wanted figure is missed.

Other load on the machine does not enter CPU time, but the caches that it takes do, and more so the
more often processes take turns: 1.34x and 1.27x at a load of 28 on 2 cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from serving import build
from tritonclient.grpc import service_pb2, service_pb2_grpc

from repo_builder import serve
from repo_builder.base import console
from repo_builder.client import EdgeClient, SharedMemory

MODEL = "squeezenet"
WANTED = {"gRPC": 1.18, "shared memory": 1.08}
"""At most so many times the CPU time of the session alone."""
_WARM = 5
_DEADLINE_S = 60.0


def session(models: Path) -> tuple[Callable[[], Any], np.ndarray[Any, Any]]:
    """One run of the model as an instance of our config runs it, and what it is given."""
    import onnxruntime as ort
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = model_config_pb2.ModelConfig()
    text_format.Parse((models / MODEL / "config.pbtxt").read_text(), config)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(config.parameters["intra_op_thread_count"].string_value)
    options.inter_op_num_threads = int(config.parameters["inter_op_thread_count"].string_value)
    (file,) = (models / MODEL).glob("*/model.onnx")
    loaded = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    shape = (1, *config.input[0].dims)
    image = np.random.default_rng(0).random(shape, np.float32)
    feeds = {config.input[0].name: image}
    return lambda: loaded.run(None, feeds), image


def server_seconds(triton: int) -> float:
    """CPU time of the process group of Triton so far, to the nanosecond."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[2]) != triton:
                continue
            for thread in (stat.parent / "task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return total / 1e9


def measure(ask: Callable[[], Any], images: int, triton: int | None) -> float:
    """CPU time for each image, in seconds."""
    before = time.process_time() + (server_seconds(triton) if triton else 0.0)
    for _ in range(images):
        ask()
    mine = time.process_time()
    return (mine + (server_seconds(triton) if triton else 0.0) - before) / images


def run(rounds: int, images: int, work: Path) -> dict[str, list[float]]:
    """CPU seconds for each image, in each round, of what is compared."""
    build(work, [MODEL])
    models = work / "build/cpu/models"
    alone, image = session(models)
    with (
        serve.Triton(models, timeout_s=120) as triton,
        EdgeClient(triton.grpc_url, shared_memory=SharedMemory(enabled=False)) as wire,
        EdgeClient(triton.grpc_url) as shared,
        grpc.insecure_channel(triton.grpc_url) as channel,
    ):
        live = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive
        nothing = service_pb2.ServerLiveRequest()

        def asking(client: EdgeClient) -> Callable[[], Any]:
            return lambda: client.infer(MODEL, image, timeout=_DEADLINE_S)

        compared = {
            "in-process": (alone, None),
            "in-process + ServerLive": (lambda: (alone(), live(nothing)), triton.pid),
            "gRPC": (asking(wire), triton.pid),
            "shared memory": (asking(shared), triton.pid),
        }
        for ask, _ in compared.values():
            for _ in range(_WARM):
                ask()
        found: dict[str, list[float]] = {what: [] for what in compared}
        for _ in range(rounds):
            for what, (ask, pid) in compared.items():
                found[what].append(measure(ask, images, pid))
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = run(arguments.rounds, arguments.images, Path(work))
    alone = found["in-process"]
    rows, missed = [], []
    for what, seconds in found.items():
        pairs = zip(seconds, alone, strict=True)
        ratio = statistics.median(served / limit for served, limit in pairs)
        most = WANTED.get(what)
        figure = f"{statistics.median(seconds) * 1e3:.2f} ms"
        rows.append([what, figure, f"{ratio:.2f}x", f"at most {most}x" if most else ""])
        if most and ratio > most:
            missed.append(f"{what} {ratio:.2f}x, wanted at most {most}x")
    header = ["what", "CPU for each image", "x in-process", "wanted"]
    console.out(console.table(header, rows, right=(1, 2)))
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
