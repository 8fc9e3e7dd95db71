"""One module per step; `STEPS` lists them. A step turns input files into output files and facts.

A step module has:

- `DECLARATION`: name, version, tools (see `repo_builder.plan.Declaration`);
- `Params`, `Inputs`, `Facts`: frozen dataclasses. Params and facts are plain JSON types (nested
  dataclasses, tuples, mappings allowed). Every field of `Inputs` is a `Path`: the folder that
  holds an artifact's files, or, for a user's file, the folder with that file in it;
- `run(inputs, params, out) -> Facts`: writes its files below the empty folder `out`. It runs in a
  process of its own, prints freely (output goes to the step's log), raises errors of
  `repo_builder.errors` for what a user can mend, and may be killed at any instant.

Steps do not import each other; what several need lies in modules with a leading underscore.
Modules import their heavy tools inside `run`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from repo_builder.plan import Declaration


class Step(Protocol):
    """The shape of a step module."""

    DECLARATION: Declaration
    Params: type[Any]
    Inputs: type[Any]
    Facts: type[Any]

    def run(self, inputs: Any, params: Any, out: Path) -> Any:
        """Do the work; see the package's docstring."""
        ...


STEPS: dict[str, str] = {
    "import": "import_onnx",
    "simplify": "simplify",
    "quantize": "quantize",
    "compile-onnxruntime": "compile_onnxruntime",
    "compile-openvino": "compile_openvino",
    "compile-tensorrt": "compile_tensorrt",
    "compile-qnn": "compile_qnn",
    "compile-tflite": "compile_tflite",
    "compile-vela": "compile_vela",
    "compile-tflite-micro": "compile_tflite_micro",
    "reference": "reference",
    "verify": "verify",
    "calibrate-confidence": "calibrate_confidence",
    "profile": "profile",
}
"""Step name -> module, in the order of a build."""


def module(name: str) -> str:
    """The name by which any process can import the step called `name`."""
    return f"{__name__}.{STEPS[name]}"


def load(name: str) -> Step:
    """Import and return the step called `name`; KeyError where there is none."""
    loaded: Any = importlib.import_module(module(name))
    step: Step = loaded
    return step


def declarations() -> dict[str, Declaration]:
    """What every step says of itself, by name."""
    return {name: load(name).DECLARATION for name in STEPS}
