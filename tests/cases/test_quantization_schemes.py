"""End to end: weights alone and 16-bit activations are built, verified, named and served."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
from workplace import SPECS, repo_builder

from repo_builder.steps import _qnn, compile_qnn, quantize

SPEC = """
name: {name}
version: 1.0.0
source: {{onnx: {digits}/digits.onnx}}
targets: [cpu, cpu-openvino]
data:
  calibration: {{path: {digits}/calibration.npz}}
  evaluation: {{path: {digits}/evaluation.npz, metric: accuracy, outputs: {{scores: logits}}}}
optimize:
  precision: int8
  quantization: {{weights: {weights}, activations: {activations}}}
gates: {{max_accuracy_drop: 0.01}}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("schemes")
    for name, weights, activations in (("w8", "int8", "none"), ("w4", "int4", "dynamic")):
        text = SPEC.format(
            name=name, digits=SPECS / "digits", weights=weights, activations=activations
        )
        (folder / f"{name}.yaml").write_text(text)
    ended = repo_builder(
        *("build", folder, "--out", folder / "out", "--store", folder / "store"),
        *("--no-images", "--json"),
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found | {"out": folder / "out"}


def test_the_scheme_is_named_and_verified_in_the_runtime(report: dict[str, Any]) -> None:
    rows = {row["id"]: row for row in report["rows"]}
    assert {key: row["precision"] for key, row in rows.items()} == {
        "w8@cpu": "int8 weights",
        "w8@cpu-openvino": "int8 weights",
        "w4@cpu": "int4 weights, dynamic activations",
        "w4@cpu-openvino": "int4 weights, dynamic activations",
    }
    assert {row["level"] for row in rows.values()} == {"executed"}
    size = (SPECS / "digits" / "digits.onnx").stat().st_size
    assert rows["w8@cpu"]["size"] < 0.5 * size
    assert rows["w4@cpu"]["size"] < 0.55 * size


def test_what_is_published_holds_integers(report: dict[str, Any]) -> None:
    models = report["out"] / "cpu" / "models"
    kinds = {}
    for name in ("w8", "w4"):
        (file,) = models.glob(f"{name}/*/model.onnx")
        model = onnx.load(file)
        kinds[name] = {node.op_type for node in model.graph.node}
        largest = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
        assert largest.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    assert "MatMulNBits" in kinds["w4"] - kinds["w8"]
    (ir,) = (report["out"] / "cpu-openvino" / "models").glob("w8/*/model.xml")
    assert re.search(r'<DYNAMIC_QUANTIZATION_GROUP_SIZE value="0"', ir.read_text())


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_snapdragon_computes_sixteen_bits(
    tmp_path: Path, weight_bits: Any, unavailable: Callable[[str], NoReturn]
) -> None:
    try:
        import onnxruntime_qnn  # noqa: F401
    except ImportError:
        unavailable("onnxruntime-qnn is not installed: pip install 'repo-builder[qualcomm]'")
    for name in ("model", "data", "qdq", "context"):
        (tmp_path / name).mkdir()
    model = onnx.load(SPECS / "digits" / "digits.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "model" / "model.onnx")
    images = np.load(SPECS / "digits" / "calibration.npz")["image"][:32]
    np.savez(tmp_path / "data" / "calibration.npz", image=images)
    np.savez(tmp_path / "data" / "evaluation.npz", image=images[:8])
    params = quantize.Params("u8s8", 32, weight_bits=weight_bits, activation_bits=16)
    inputs = quantize.Inputs(tmp_path / "model", tmp_path / "data")
    quantize.run(inputs, params, tmp_path / "qdq")
    device = compile_qnn.Params(htp_arch=75, soc_model=82, rows=2)
    compiled = compile_qnn.Inputs(tmp_path / "qdq", tmp_path / "data")
    compile_qnn.run(compiled, device, tmp_path / "context")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    written = ort.InferenceSession(tmp_path / "qdq" / "model.onnx", options)
    simulator = _qnn.load(tmp_path / "context" / "model.onnx")
    for image in images[:8]:
        wanted, found = (s.run(None, {"image": image[None]})[0] for s in (written, simulator))
        # Activations of 8 bits would be off by a hundredth.
        assert np.linalg.norm(found - wanted) < 2e-3 * np.linalg.norm(wanted)
