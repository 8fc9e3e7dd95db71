"""int8 against fp32 in ONNX Runtime: speed on resnet50, accuracy on the digits example.

    python benchmarks/quantization.py

Everything goes through the steps that a build runs. resnet50 is `light_resnet50` from the `onnx`
package: the real graph, its weights made by ConstantOfShape, so it says nothing of accuracy.
Ratios are taken within one run, with the two models timed in turns.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from repo_builder import steps
from repo_builder.steps import _runtimes

ROUNDS = 15
WANTED_RATIO = 2.5
ALLOWED_DROP = 0.005
DIGITS = Path(__file__).parent.parent / "model_specs" / "digits"
RESNET50 = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"


class Workshop:
    """Runs steps in folders of a scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.count = 0

    def folder(self, **files: Path) -> Path:
        """A new folder with copies of `files`; `_` in a name stands for `.`."""
        self.count += 1
        made = self.scratch / str(self.count)
        made.mkdir()
        for name, path in files.items():
            shutil.copy(path, made / name.replace("_", "."))
        return made

    def step(self, name: str, params: dict[str, Any] | None = None, **inputs: Path) -> Any:
        """Run a step; its folder and its facts."""
        module, out = steps.load(name), self.folder()
        return out, module.run(module.Inputs(**inputs), module.Params(**(params or {})), out)

    def build(self, source: Path, calibration: Path, method: str, count: int) -> dict[str, Path]:
        """The source, and the model compiled for ONNX Runtime in fp32 and in int8."""
        imported, _ = self.step("import", model=source)
        simple, _ = self.step("simplify", model=imported)
        params = {"scheme": "u8s8", "samples": count, "method": method}
        int8, _ = self.step("quantize", params, model=simple, calibration=calibration)
        return {
            "source": imported,
            "fp32": self.step("compile-onnxruntime", model=simple)[0],
            "int8": self.step("compile-onnxruntime", {"precision": "int8"}, model=int8)[0],
        }


def speed(workshop: Workshop) -> dict[str, float]:
    """Median milliseconds of one image on one thread, and their ratio."""
    feed = {"gpu_0/data_0": np.random.default_rng(0).random((1, 3, 224, 224), np.float32)}
    calibration = workshop.folder()
    np.savez(calibration / "calibration.npz", **feed)
    built = workshop.build(workshop.folder(model_onnx=RESNET50), calibration, "minmax", 1)
    options = _runtimes.Options(threads=1)
    runners = {
        name: _runtimes.load(built[name], "onnxruntime", options) for name in ("fp32", "int8")
    }
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            begun = time.perf_counter()
            runner.run(feed)
            times[name].append(time.perf_counter() - begun)
    # The first two rounds are the warm-up.
    fp32, int8 = (1e3 * statistics.median(times[name][2:]) for name in ("fp32", "int8"))
    return {"fp32_ms": round(fp32, 2), "int8_ms": round(int8, 2), "ratio": round(fp32 / int8, 2)}


def accuracy(workshop: Workshop, method: str) -> dict[str, float]:
    """Accuracy of digits on its evaluation data, in the source's fp32 and in int8."""
    calibration = workshop.folder(calibration_npz=DIGITS / "calibration.npz")
    evaluation = workshop.folder(evaluation_npz=DIGITS / "evaluation.npz")
    source = workshop.folder(model_onnx=DIGITS / "digits.onnx")
    built = workshop.build(source, calibration, method, 200)
    judged = {"metric": "accuracy", "labels": {"label": "label"}, "outputs": {"scores": "logits"}}
    reference, _ = workshop.step("reference", judged, model=built["source"], evaluation=evaluation)
    params = {"runtime": "onnxruntime", "threads": 1, **judged}
    _, facts = workshop.step(
        "verify", params, model=built["int8"], reference=reference, evaluation=evaluation
    )
    return {
        "fp32": facts.score.source,
        "int8": facts.score.built,
        "drop": round(facts.score.drop, 5),
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(Path(scratch))
        resnet50 = speed(workshop)
        digits = {m: accuracy(workshop, m) for m in ("minmax", "percentile", "entropy")}
    print(json.dumps({"resnet50, one thread": resnet50, "digits": digits}, indent=2))
    worst = max(figures["drop"] for figures in digits.values())
    return 0 if resnet50["ratio"] >= WANTED_RATIO and worst <= ALLOWED_DROP else 1


if __name__ == "__main__":
    sys.exit(main())
