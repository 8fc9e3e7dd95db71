"""int8 on a processor without VNNI, which QEMU emulates: the answers are as verified."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from repo_builder import steps

RUN = {
    "onnxruntime": (
        "import sys, numpy as np, onnxruntime as o\n"
        "s = o.InferenceSession(sys.argv[1] + '/model.onnx', providers=['CPUExecutionProvider'])\n"
        "np.save(sys.argv[3], s.run(None, {'x': np.load(sys.argv[2])['x']})[0])\n"
    ),
    "openvino": (
        "import sys, numpy as np, openvino as o\n"
        "as_written = {'INFERENCE_PRECISION_HINT': 'f32'}\n"
        "m = o.compile_model(sys.argv[1] + '/model.xml', 'CPU', as_written)\n"
        "np.save(sys.argv[3], m({'x': np.load(sys.argv[2])['x']})[0])\n"
    ),
}
WITHOUT_VNNI = ("-cpu", "Haswell")


@pytest.fixture
def qemu(unavailable: Callable[[str], Any]) -> str:
    """The emulator of Debian's package qemu-user-static."""
    found = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if found is None:
        unavailable("no qemu-x86_64-static; install Debian's qemu-user-static")
    return str(found)


def mostly_positive() -> onnx.ModelProto:
    """Weights of one sign and rows of 0..1, as images are: sums of products grow the most."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        signs = np.where(random.random(shape) < 0.8, 1, -1)
        return (np.abs(random.normal(0, 0.3, shape)) * signs).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["b"], pads=[1] * 4),
        helper.make_node("Relu", ["b"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["q"]),
        helper.make_node("Gemm", ["q", "w3"], ["y"]),
    ]
    stored = {"w1": weights(16, 3, 3, 3), "w2": weights(16, 16, 3, 3), "w3": weights(16, 10)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(folder: Path, data: Path, runtime: str, *before: str) -> Any:
    """What the runtime of this environment answers, on this processor or behind `before`."""
    out = folder / f"{len(before)}.npy"
    python = os.path.realpath(sys.executable)
    site = str(Path(np.__file__).parents[1])
    arguments = [*before, python, "-c", RUN[runtime], str(folder), str(data), str(out)]
    subprocess.run(arguments, check=True, env={**os.environ, "PYTHONPATH": site}, timeout=300)
    return np.load(out)


def distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("step", "runtime", "params"),
    [
        ("quantize", "onnxruntime", {"scheme": "u8s8"}),
        ("compile-openvino", "openvino", {"precision": "int8"}),
    ],
)
def test_int8_answers_alike_with_and_without_vnni(
    tmp_path: Path, qemu: str, step: str, runtime: str, params: dict[str, Any]
) -> None:
    model, out = tmp_path / "source", tmp_path / "out"
    model.mkdir()
    out.mkdir()
    (model / "model.onnx").write_bytes(mostly_positive().SerializeToString())
    x = np.random.default_rng(1).random((16, 3, 12, 12)).astype(np.float32)
    np.savez(model / "calibration.npz", x=x)
    module = steps.load(step)
    given = module.Params(samples=len(x), weight_bits=7, **params)
    module.run(module.Inputs(model, model), given, out)
    data = model / "calibration.npz"
    source = answers(model, data, "onnxruntime")
    here = answers(out, data, runtime)
    there = answers(out, data, runtime, qemu, *WITHOUT_VNNI)
    assert distance(here, source) < 0.03
    assert distance(there, source) < 0.03
    assert distance(there, here) < 0.02


def test_a_model_that_came_quantized_answers_alike_too(tmp_path: Path, qemu: str) -> None:
    """With signed weights of 8 bits it saturates there; passed on as unsigned it does not."""
    folders = [tmp_path / name for name in ("source", "int8", "passed")]
    for folder in folders:
        folder.mkdir()
    model, int8, passed = folders
    (model / "model.onnx").write_bytes(mostly_positive().SerializeToString())
    x = np.random.default_rng(1).random((16, 3, 12, 12)).astype(np.float32)
    for folder in (model, int8):
        np.savez(folder / "calibration.npz", x=x)
    quantize = steps.load("quantize")
    quantize.run(quantize.Inputs(model, model), quantize.Params("u8s8", len(x)), int8)
    given = quantize.Params("u8s8", len(x), weight_bits=7)
    quantize.run(quantize.Inputs(int8, int8), given, passed)
    data = model / "calibration.npz"
    here = answers(int8, data, "onnxruntime")
    assert distance(answers(int8, data, "onnxruntime", qemu, *WITHOUT_VNNI), here) > 0.05
    assert distance(answers(passed, data, "onnxruntime", qemu, *WITHOUT_VNNI), here) < 0.01
