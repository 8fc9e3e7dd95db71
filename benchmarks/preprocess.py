"""What a camera's frame costs until a detector has it.

    python benchmarks/preprocess.py [--rounds 30]

A frame of 1920 x 1080, as uint8 RGB in memory, becomes the letterboxed 640 x 640 input of a net,
through a genuine Triton and the client SDK. The net does as little as one can that reads every
pixel (a convolution with a stride of 32). All ways take turns in every round; ratios are medians
over the rounds, of time and of the CPU time of caller and server, against the `preprocess` stage in
Python, which takes files: a caller with a frame in memory writes a JPEG first. Beside it the same
with a JPEG that is there already, and with BMP, the cheapest file there is. Exits with 1 where a
wanted figure is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from serving_cpu import server_seconds

from repo_builder import serve
from repo_builder.base import console
from repo_builder.client import EdgeClient, SharedMemory
from repo_builder.client.models.preprocess import Preprocess

Array = np.ndarray[Any, Any]
STAGE, BMP = "stage in Python, frame to JPEG", "stage in Python, frame to BMP"
GRAPH = "frame, graph of its size, shared memory"
SMALL, FLOATS = "caller resizes, UINT8 640 x 640", "caller does all, FP32 640 x 640"
FASTER, FEWER = 3.0, 3.9
"""Wanted: times faster end to end, and times fewer bytes of input."""
RECIPE = Preprocess("images", (640, 640), fit="letterbox")
_PIPELINE = """
kind: pipeline
name: by-stage
version: 1.0.0
targets: [cpu]
inputs: [file]
steps:
  decode: {preprocess: outside, inputs: {file: file}}
  detect: {model: outside, inputs: {images: decode.images}}
outputs: {y: detect.y}
sample: {file: sample.bmp}
"""


def frame() -> Array:
    """A picture with edges, slopes and noise, [1080, 1920, 3]."""
    y, x = np.mgrid[:1080, :1920]
    soft = 127 + 90 * np.sin(x / 97) * np.cos(y / 61) + 30 * ((x // 160 + y // 120) % 2)
    noise = np.random.default_rng(0).integers(-8, 9, (1080, 1920, 3))
    return np.clip(soft[..., None] * (1.0, 0.8, 0.6) + noise, 0, 255).astype(np.uint8)


def written(image: Array, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, quality=90)
    return stream.getvalue()


def build(folder: Path, image: Array) -> Path:
    """The repository of the net in its three forms, and of the pipeline."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32) / 55
    shape: list[int | str] = ["N", 3, 640, 640]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["y"], strides=[32, 32])],
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 20, 20])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "net.onnx")
    (folder / "sample.bmp").write_bytes(written(image, "BMP"))
    (folder / "by-stage.yaml").write_text(_PIPELINE)
    forms = {
        "outside": {},
        "any": {"place": "graph"},
        "fixed": {"place": "graph", "source": [1080, 1920]},
        "same": {"place": "graph", "source": [640] * 2},
    }
    for name, more in forms.items():
        recipe = {"input": "images", "size": [640, 640], "fit": "letterbox", **more}
        spec = {"name": name, "version": "1.0.0", "source": {"onnx": "net.onnx"}}
        spec.update(targets=["cpu"], preprocess=recipe)
        (folder / f"{name}.yaml").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "repo_builder", "build", str(folder), "--out"]
    subprocess.run([*command, str(folder / "build"), "--store", str(folder / "store")], check=True)
    return folder / "build" / "cpu"


def ways(url: str, image: Array) -> dict[str, tuple[Callable[[], Any], int]]:
    """What is called, and the bytes of the tensor that is sent by it."""
    client = EdgeClient(url)
    wire = EdgeClient(url, shared_memory=SharedMemory(enabled=False))
    small = Preprocess("images", (640, 640), fit="letterbox", place="graph", source=(640, 640))
    jpeg = written(image, "JPEG")

    def by_stage(content: bytes) -> Any:
        return client.infer("by-stage", {"file": np.array([content], object)}).outputs["y"]

    def with_model(model: str, tensor: Array, through: EdgeClient = client) -> Any:
        return through.infer(model, {"images": tensor}).outputs["y"]

    return {
        STAGE: (lambda: by_stage(written(image, "JPEG")), len(jpeg)),
        "stage in Python, JPEG as it is": (lambda: by_stage(jpeg), len(jpeg)),
        BMP: (lambda: by_stage(written(image, "BMP")), len(written(image, "BMP"))),
        FLOATS: (lambda: with_model("outside", RECIPE.apply(image)[0]), RECIPE.apply(image).nbytes),
        SMALL: (lambda: with_model("same", small.sent(image)[0][0]), small.sent(image)[0].nbytes),
        "frame, graph of any size, gRPC": (lambda: with_model("any", image, wire), image.nbytes),
        "frame, graph of any size, shared memory": (lambda: with_model("any", image), image.nbytes),
        GRAPH: (lambda: with_model("fixed", image), image.nbytes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="What a camera's frame costs.")
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    image = frame()
    with tempfile.TemporaryDirectory() as scratch:
        repository = build(Path(scratch), image)
        with serve.Triton(repository, timeout_s=120) as server:
            contenders = ways(server.grpc_url, image)
            answers = {name: np.asarray(call()) for name, (call, _) in contenders.items()}
            seconds: dict[str, list[float]] = {name: [] for name in contenders}
            spent: dict[str, list[float]] = {name: [] for name in contenders}
            for turn in range(rounds + 5):
                names = list(contenders) if turn % 2 else list(contenders)[::-1]
                for name in names:
                    cpu = time.process_time() + server_seconds(server.pid)
                    begun = time.perf_counter()
                    contenders[name][0]()
                    ended = time.perf_counter()
                    if turn >= 5:
                        now = time.process_time() + server_seconds(server.pid)
                        seconds[name].append(ended - begun)
                        spent[name].append(now - cpu)
    rows, ratio = [], {}
    exact = answers[FLOATS]
    for name, (_, size) in contenders.items():
        turns = zip(seconds[STAGE], seconds[name], strict=True)
        ratio[name] = statistics.median(stage / here for stage, here in turns)
        middle, cpu = (statistics.median(found[name]) * 1000 for found in (seconds, spent))
        turns = zip(spent[STAGE], spent[name], strict=True)
        less = statistics.median(stage / here for stage, here in turns)
        apart = np.linalg.norm(answers[name] - exact) / np.linalg.norm(exact)
        figures = (f"{value:.{digits}f}" for value, digits in (
            (size / 1e6, 2), (middle, 1), (ratio[name], 2), (cpu, 1), (less, 2)
        ))  # fmt: skip
        rows.append((name, *figures, f"{apart:.1e}"))
    header = ("way", "MB in", "ms, median", "times faster", "CPU ms", "times less", "off by")
    console.out(console.table(header, rows, right=(1, 2, 3, 4, 5, 6)))
    fewer = contenders[FLOATS][1] / contenders[SMALL][1]
    console.out(f"bytes of FP32 over bytes of UINT8: {fewer:.2f}, wanted {FEWER}")
    console.out(f"stage over graph: {ratio[GRAPH]:.2f}, wanted {FASTER}")
    return 0 if ratio[GRAPH] >= FASTER and fewer >= FEWER else 1


if __name__ == "__main__":
    sys.exit(main())
