"""Compares `targets advise`'s estimates with published latencies; writes docs/roofline.md.

python benchmarks/roofline.py > docs/roofline.md
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import architectures
import onnx

from repo_builder import targets
from repo_builder.targets.advise import Machine, read
from repo_builder.targets.advise.roofline import timing
from repo_builder.targets.types import Precision


class Published(NamedTuple):
    """A latency that someone published, for a device in a power mode."""

    network: Callable[[int], onnx.ModelProto]
    title: str
    batch: int
    device: str
    mode: str
    precision: Precision
    latency_ms: float


NX, AGX = "jetson-orin-nx", "jetson-agx-orin"
GUIDE = (
    Published(architectures.yolov8n, "YOLOv8n 640", 1, NX, "25W", "int8", 8.9),
    Published(architectures.yolov8n, "YOLOv8n 640", 4, NX, "25W", "int8", 12.5),
    Published(architectures.efficientnet_b0, "EfficientNet-B0 224", 1, NX, "25W", "int8", 2.1),
    Published(architectures.resnet50, "ResNet-50 224", 1, NX, "25W", "int8", 5.6),
    Published(architectures.deeplabv3, "DeepLab v3 (ResNet-50) 512", 1, NX, "25W", "int8", 55),
    Published(architectures.yolov8n, "YOLOv8n 640", 1, AGX, "MAXN", "int8", 3.6),
    Published(architectures.yolov8n, "YOLOv8n 640", 16, AGX, "MAXN", "int8", 7.6),
    Published(architectures.resnet50, "ResNet-50 224", 1, AGX, "MAXN", "int8", 1.05),
    Published(architectures.bert_base, "BERT-base 1024", 4, AGX, "MAXN", "int8", 22),
)


def compare(rows: Iterable[Published]) -> list[tuple[Published, float, str, float]]:
    """Each row with the estimate in ms, what bounds it, and the estimate in mode MAXN."""
    catalog, machine = targets.load(), Machine(1, 1)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            path = architectures.save(row.network(row.batch), Path(folder), "network")
            workload = read(path, row.batch)
            device = catalog[row.device]
            modes = {mode.name: mode for mode in device.power_modes}
            own, top = (
                timing(workload, device, row.precision, modes[mode], machine)
                for mode in (row.mode, "MAXN")
            )
            found.append((row, own.latency_ms, own.bound, top.latency_ms))
    return found


def page() -> str:
    """docs/roofline.md."""
    lines = [HEAD]
    for row, own, bound, top in compare(GUIDE):
        ratio = own / row.latency_ms
        mark = "" if 0.5 <= ratio <= 2 else " (outlier)"
        lines.append(
            f"| {row.title} | {row.batch} | {row.device} | {row.mode} | {row.latency_ms:g} | "
            f"{own:.2f} | {ratio:.2f}{mark} | {bound} | {top:.2f} |"
        )
    return "\n".join([*lines, TAIL])


HEAD = """# How good the estimates of `targets advise` are

Written by `python benchmarks/roofline.py > docs/roofline.md`; a test compares them.

`targets advise` counts the multiply-accumulates and bytes of every layer of a model's own graph
and puts them under the device's roofline: a layer takes the longer of its arithmetic (dense
peak rate x efficiency) and its data (bandwidth x efficiency), and a fixed cost. Peak rate,
clock and bandwidth are the maker's, per power mode ([targets](targets.md)); efficiency and
fixed cost are assumptions, one set for both Jetsons: 25% of the dense peak, 3% for depthwise
convolutions, 70% of the bandwidth, 25 us a layer at full clock. They were chosen so that the
table fits on the whole: it shows that one set of assumptions can carry it, and proves no more.

The table has the latencies that the project's guide publishes in its V.B (int8, TensorRT), the
estimate for the power mode that its heading names, and their ratio. Last, the estimate without
a power limit. The networks are built layer by layer in `benchmarks/architectures.py`; their
counts agree with what their authors publish.

| network | batch | device | mode | guide, ms | estimate, ms | ratio | bound by | MAXN, ms |
|---|---|---|---|---|---|---|---|---|"""

TAIL = """
## Reading it

- The guide heads its Orin NX table "25W passive" and says elsewhere that 25 W are 1.5 GHz. The
  module's GPU ends at 918 MHz (1173 MHz in Super mode), and NVIDIA's own mode called 25W holds
  it at 408 MHz. ResNet-50 and YOLOv8n at batch 1 fit that mode (at full clocks they would be
  half as long); DeepLab and EfficientNet fit full clocks better. No one setting gives all five
  rows: ResNet-50 takes 5.3 times as long as on the AGX, YOLOv8n 2.5 times, where the peak rates
  differ by 2.8.
- EfficientNet-B0 is an outlier: 115 small layers and depthwise convolutions make the estimate
  nearly all fixed cost, stretched by the mode's low clock. Without a limit it is 1.6 times the
  guide's figure.
- BERT-base is an outlier: its few large matrix products reach about 45% of the peak in the
  guide's figure, where convolutions at batch 1 reach less than the 25% that is assumed for
  everything.
- The guide does not say which DeepLab v3; with a MobileNet backbone it would be far less work.
- Nothing here was measured on a Jetson. Published by others, pre- and postprocessing included:
  YOLOv8n at 89 a second (11.2 ms) on an Orin NX (docs.roboflow.com, Inference benchmarks).
- fp32 is counted on CUDA cores. TensorRT uses TF32 on Tensor cores where it may, which is
  faster.
- Preprocessing, transport, queueing, other load and heat come on top of an estimate. Measure
  before you buy in quantity.

So `advise` takes its estimates as right within a factor of two, and says "yes" only where twice
the time would do.
"""

if __name__ == "__main__":
    print(page(), end="")
