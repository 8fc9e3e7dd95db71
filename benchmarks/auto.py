"""`optimize: auto` against NNCF's accuracy-aware quantization, and what choosing the runtime gives.

    python benchmarks/auto.py

Two of `hard_nets.py`, which plain int8 ruins, the same calibration and evaluation rows,
the same limit on the accuracy, and OpenVINO for both, in one run, one after the other in processes
of their own: bytes of the model, accuracy on rows that neither saw, the time of all processors.
Then a ResNet-50 of random weights at 224 pixels on one thread: times in turns of fp32 and int8 in
ONNX Runtime and OpenVINO. About 6 minutes on two cores.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hard_nets import Attention, Depthwise, harm_attention, harm_depthwise
from repair import Data, digits, exported, train
from torch import nn

from repo_builder import steps
from repo_builder.steps import _runtimes

LIMIT = 0.005
"""The accuracy may fall by this much."""

CALIBRATION = 200
TURNS = 7

NNCF = """
import sys
from pathlib import Path
import nncf, numpy as np, openvino as ov
folder, limit = Path(sys.argv[1]), float(sys.argv[2])
calibration = np.load(folder / "calibration.npz")["x"]
rows = np.load(folder / "evaluation.npz")
model = ov.convert_model(folder / "model.onnx")
def right(compiled, _items):
    found = compiled(rows["x"])[0].argmax(axis=1)
    return float((found == rows["label"]).mean()), None
made = nncf.quantize_with_accuracy_control(
    model,
    nncf.Dataset([row[None] for row in calibration]),
    nncf.Dataset(list(range(len(rows["x"])))),
    right,
    max_drop=limit,
    subset_size=len(calibration),
)
ov.save_model(made, folder / "nncf.xml", compress_to_fp16=False)
"""

SPEC = """name: net
version: 1.0.0
source: {{onnx: model.onnx}}
targets: [cpu-openvino]
data:
  calibration: {{path: calibration.npz, samples: {samples}}}
  evaluation: {{path: evaluation.npz, metric: accuracy, outputs: {{scores: y}}}}
optimize: auto
gates: {{max_accuracy_drop: {limit}}}
"""


def prepared(net: Any, harm: Any, folder: Path, train_data: Data, test: Data) -> Data:
    """Write model and rows; the rows that nobody sees are returned."""
    torch.manual_seed(0)
    train(net, train_data)
    harm(net)
    exported(net, folder)
    step = len(train_data.images) // CALIBRATION
    np.savez(folder / "calibration.npz", x=train_data.images[::step][:CALIBRATION])
    np.savez(folder / "evaluation.npz", x=test.images[::2], label=test.labels[::2])
    return Data(test.images[1::2], test.labels[1::2])


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of all processors, and of the clock."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.monotonic() - begun


def accuracy(xml: Path, data: Data) -> float:
    """The share of rows that OpenVINO answers right."""
    import openvino

    compiled = openvino.Core().compile_model(xml, "CPU")
    return float((compiled(data.images)[0].argmax(axis=1) == data.labels).mean())


def size(xml: Path) -> int:
    """Bytes of both files of a model."""
    return xml.stat().st_size + xml.with_suffix(".bin").stat().st_size


def compared(name: str, net: Any, harm: Any, train_data: Data, test: Data) -> bool:
    """Print both searches on a net; whether ours is as small in half the time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        unseen = prepared(net, harm, folder, train_data, test)
        (folder / "net.yaml").write_text(SPEC.format(samples=CALIBRATION, limit=LIMIT))
        theirs = timed([sys.executable, "-c", NNCF, ".", str(LIMIT)], folder)
        build = [sys.executable, "-m", "repo_builder", "build", "net.yaml", "--no-images"]
        ours = timed([*build, "--store", "store"], folder)
        again = timed([*build, "--store", "store"], folder)
        report = json.loads((folder / "build" / "report.json").read_text())
        winner = report["rows"][0]["search"]["winner"]
        (made,) = folder.glob("build/cpu-openvino/models/net/*/model.xml")
        fp32 = accuracy(folder / "model.onnx", unseen)
        for who, xml, took in (("NNCF", folder / "nncf.xml", theirs), (winner, made, ours)):
            lost = 100 * (accuracy(xml, unseen) - fp32)
            print(
                f"| {name} | {who} | {size(xml) / 1e3:.1f} | {lost:+.2f} | {took[0]:.1f} | "
                f"{took[1]:.1f} |",
                flush=True,
            )
        print(f"| {name} | a second build | | | {again[0]:.1f} | {again[1]:.1f} |", flush=True)
        return size(made) <= size(folder / "nncf.xml") and ours[0] <= 0.5 * theirs[0]


class Bottleneck(nn.Module):  # type: ignore[misc]
    """1x1, 3x3, 1x1 and a way around (He et al., "Deep Residual Learning", 2015)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *_conv(inputs, width, 1, 1),
            nn.ReLU(),
            *_conv(width, width, 3, stride),
            nn.ReLU(),
            *_conv(width, outputs, 1, 1),
        )
        same = stride == 1 and inputs == outputs
        self.around = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride))

    def forward(self, x: Any) -> Any:
        """[n, inputs, h, w] to [n, 4 * width, h / stride, w / stride]."""
        return torch.relu(self.body(x) + self.around(x))


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> list[Any]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def resnet50() -> Any:
    """ResNet-50 for 1,000 classes, with random weights: its times are those of any other."""
    torch.manual_seed(0)
    layers: list[Any] = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            layers.append(Bottleneck(inputs, width, stride if number == 0 else 1))
            inputs = 4 * width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)]
    return nn.Sequential(*layers, *head).eval()


def runtimes() -> float:
    """Print the times of a ResNet-50 in each runtime; how many times faster the best int8 is."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def step(name: str, params: dict[str, Any], **inputs: Path) -> Path:
            module, out = steps.load(name), folder / f"{name}-{len(list(folder.iterdir()))}"
            out.mkdir()
            module.run(module.Inputs(**inputs), module.Params(**params), out)
            return out

        source = folder / "source"
        source.mkdir()
        torch.onnx.export(
            resnet50(),
            (torch.zeros(1, 3, 224, 224),),
            source / "model.onnx",
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        rows = np.random.default_rng(0).normal(size=(16, 3, 224, 224)).astype(np.float32)
        np.savez(source / "calibration.npz", x=rows)
        fp32 = step("simplify", {}, model=source)
        int8 = step("quantize", {"scheme": "u8s8", "samples": 16}, model=fp32, calibration=source)
        in_openvino = step("compile-openvino", {"precision": "fp32", "device": "CPU"}, model=fp32)
        of_openvino = step(
            "compile-openvino",
            {"precision": "int8", "device": "CPU", "method": "minmax", "samples": 16},
            model=fp32,
            calibration=source,
        )
        options = _runtimes.Options(1)
        runners = {
            "ONNX Runtime fp32": _runtimes.load(fp32, "onnxruntime", options),
            "ONNX Runtime int8": _runtimes.load(int8, "onnxruntime", options),
            "OpenVINO fp32": _runtimes.load(in_openvino, "openvino", options),
            "OpenVINO int8": _runtimes.load(of_openvino, "openvino", options),
        }
        times: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(TURNS):
            for name, runner in runners.items():
                before = time.process_time()
                runner.run({"x": rows[:1]})
                times[name].append(time.process_time() - before)
        least = {name: min(found) for name, found in times.items()}
        slowest = least["ONNX Runtime fp32"]
        for name, seconds in least.items():
            print(f"| {name} | {seconds * 1e3:.0f} | {slowest / seconds:.2f}x |", flush=True)
        return slowest / min(least["ONNX Runtime int8"], least["OpenVINO int8"])


def main() -> int:
    torch.set_num_threads(2)
    train_data, test = digits()
    print(
        "| net | found by | KB | points on other rows | CPU s | wall s |\n|---|---|---|---|---|---|"
    )
    good = [
        compared("depthwise", Depthwise(), harm_depthwise, train_data, test),
        compared("transformer", Attention(), harm_attention, train_data, test),
    ]
    print("\n| resnet50, one thread | CPU ms | against fp32 |\n|---|---|---|")
    faster = runtimes()
    return 0 if all(good) and faster >= 3.5 else 1


if __name__ == "__main__":
    sys.exit(main())
