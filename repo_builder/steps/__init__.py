"""One module per step; `STEPS` lists them. A step turns input files into output files and facts.

A step module has:

- `Params`, `Inputs`, `Facts`: frozen dataclasses. Params and facts are plain JSON types (nested
  dataclasses, tuples, mappings allowed). Every field of `Inputs` is a `Path`: the folder that
  holds an artifact's files, or, for a user's file, the folder with that file in it;
- `run(inputs, params, out) -> Facts`: writes its files below the empty folder `out`. It runs in a
  process of its own, prints freely (output goes to the step's log), raises errors of
  `repo_builder.base.errors` for what a user can mend, and may be killed at any instant.

A step whose declaration `keeps` a folder takes that too: `run(inputs, params, out, kept)`. What
lies there outlives the build; it may save time and never changes what is made.

A step whose inputs differ in number from plan to plan has `class Inputs(dict[str, Path])`.

Steps do not import each other; what several need lies in modules with a leading underscore.
Modules import their heavy tools inside `run`. Which steps a target needs, and in which order, is
decided in `plan/`; whether they run at all in `run/`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Protocol

from repo_builder.plan import Declaration

# OpenVINO and NNCF tell a web service of every import, conversion and quantization, each time from
# a process that they fork, unless this package is not to be had. What is built is nobody else's
# business, and the forks took a third of the CPU time of int8 for OpenVINO.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


class Step(Protocol):
    """The shape of a step module."""

    Params: type[Any]
    Inputs: type[Any]
    Facts: type[Any]

    def run(self, inputs: Any, params: Any, out: Path) -> Any:
        """Do the work; see the package's docstring."""
        ...


_HOUR = 3600.0
"""Vendors' compilers have hung; those of the examples take seconds, of large models minutes."""

STEPS: dict[str, Declaration] = {
    "export_torch": Declaration(
        "export",
        1,
        tools=("onnx", "onnxruntime", "onnxscript", "torch"),
        extra="torch",
        limit_s=_HOUR,
    ),
    "soft_targets": Declaration("soft-targets", 1, tools=("onnx", "onnxruntime")),
    "train_torch": Declaration("train", 2, tools=("torch",), extra="torch", keeps="training"),
    # It may time nets in the target's runtime while it looks for how much must go.
    "prune": Declaration(
        "prune", 1, tools=("torch", "torch-pruning"), extra="torch", exclusive=True
    ),
    "choose_weights": Declaration("choose", 1, tools=("torch",), extra="torch"),
    "join_preprocess": Declaration("join-preprocess", 2, tools=("onnx", "onnxruntime")),
    "join_signal": Declaration("join-signal", 1, tools=("onnx", "onnxruntime")),
    "join_postprocess": Declaration("join-postprocess", 1, tools=("onnx", "onnxruntime")),
    "to_images": Declaration("to-images", 1),
    "import_onnx": Declaration("import", 8, tools=("onnx", "onnxruntime")),
    "fix_shapes": Declaration("fix-shapes", 1, tools=("onnx", "onnxruntime")),
    "simplify": Declaration("simplify", 5, tools=("onnx", "onnxruntime", "onnxslim")),
    "near": Declaration("near", 1, tools=("onnx", "onnxruntime", "numpy"), extra="device"),
    "quantize": Declaration("quantize", 7, tools=("onnx", "onnxruntime", "numpy")),
    "sensitivity": Declaration(
        "sensitivity", 4, tools=("onnx", "onnxruntime", "numpy"), limit_s=6 * _HOUR
    ),
    "quantize_weights": Declaration("quantize-weights", 3, tools=("onnx", "onnxruntime", "numpy")),
    "compile_onnxruntime": Declaration("compile-onnxruntime", 5, tools=("onnx", "onnxruntime")),
    "compile_openvino": Declaration(
        "compile-openvino",
        8,
        tools=("onnx", "onnxruntime", "openvino", "nncf"),
        extra="openvino",
        limit_s=_HOUR,
    ),
    # TensorRT's version is in no key: a plan is tied to the machine that builds it, by its record.
    "compile_tensorrt": Declaration(
        "compile-tensorrt", 4, tools=("onnx",), limit_s=6 * _HOUR, keeps="tensorrt"
    ),
    "compile_qnn": Declaration(
        "compile-qnn",
        3,
        tools=("onnx", "onnxruntime", "onnxruntime-qnn"),
        extra="qualcomm",
        limit_s=_HOUR,
    ),
    "compile_tflite": Declaration(
        "compile-tflite",
        1,
        tools=("onnx", "onnxruntime", "ai-edge-litert", "flatbuffers"),
        extra="tflite",
        limit_s=_HOUR,
    ),
    "compile_vela": Declaration(
        "compile-vela", 2, tools=("ethos-u-vela", "flatbuffers"), extra="ethos"
    ),
    "compile_tflite_micro": Declaration(
        "compile-tflite-micro", 1, tools=("ai-edge-litert", "flatbuffers"), extra="tflite"
    ),
    "reference": Declaration("reference", 6, tools=("onnxruntime",)),
    "fp16_ranges": Declaration("fp16-ranges", 2, tools=("onnx", "onnxruntime")),
    "emulate_fp16": Declaration("emulate-fp16", 2, tools=("onnx", "onnxruntime")),
    "verify": Declaration("verify", 6, tools=("onnx", "onnxruntime"), limit_s=6 * _HOUR),
    "score": Declaration("score", 1, tools=("onnxruntime",)),
    "calibrate_confidence": Declaration("calibrate-confidence", 3, tools=("onnxruntime",)),
    "warm_up": Declaration("warm-up", 1, tools=("onnxruntime",)),
    "profile": Declaration("profile", 3, tools=("onnxruntime",), exclusive=True),
    "stage_python": Declaration("stage-python", 2),
    "stage_nms": Declaration("stage-nms", 1, tools=("onnx",)),
    "run_pipeline": Declaration("run-pipeline", 2, tools=("onnxruntime",), exclusive=True),
}
"""Module -> what its step is, in the order of a build.

It stands here, and not in the modules, so that a build with nothing to do imports none of them. A
step whose output changes for the same inputs needs a new version.
"""


def declarations() -> dict[str, Declaration]:
    """What every step is, by its name."""
    return {step.name: step for step in STEPS.values()}


def module(name: str) -> str:
    """The name by which any process can import the step called `name`; KeyError for none."""
    modules = {step.name: module for module, step in STEPS.items()}
    return f"{__name__}.{modules[name]}"


def load(name: str) -> Step:
    """Import and return the step called `name`; KeyError where there is none."""
    loaded: Any = importlib.import_module(module(name))
    step: Step = loaded
    return step
