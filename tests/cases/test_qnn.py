"""The Snapdragon tier: compiled offline, run in QNN's simulator, served by a genuine Triton."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import QuantType
from qdq_models import Net, quantize
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput

from repo_builder.base.errors import ModelError
from repo_builder.steps import compile_qnn

SPECS = Path("model_specs/digits")
V75 = compile_qnn.Params(htp_arch=75, soc_model=82, rows=20)

CONFIG = """
name: "digits" backend: "python" max_batch_size: 16
input [{ name: "image" data_type: TYPE_FP32 dims: [1, 8, 8] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [10] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Path:
    """`digits` in QDQ form: unsigned activations, signed weights, as HTP runs best."""
    try:
        import onnxruntime_qnn  # noqa: F401
    except ImportError:
        unavailable("onnxruntime-qnn is not installed: pip install 'repo-builder[qualcomm]'")
    folder = tmp_path_factory.mktemp("digits")
    (folder / "qdq").mkdir()
    rows = np.load(SPECS / "calibration.npz", allow_pickle=False)["image"]
    model = quantize(
        onnx.load(SPECS / "digits.onnx"),
        folder,
        [row[None] for row in rows[:100]],
        activation_type=QuantType.QUInt8,
    )
    onnx.save(model, folder / "qdq" / "model.onnx")
    return folder / "qdq"


@pytest.fixture(scope="module")
def compiled(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compiled")
    facts = compile_qnn.run(compile_qnn.Inputs(source, SPECS), V75, out)
    assert facts.level.name == "simulated"
    assert (facts.data, facts.rows) == ("evaluation", 20)
    assert facts.context_size == (out / "model_qnn.bin").stat().st_size > 10_000
    assert facts.differences[0].relative < 0.02
    return out


def test_simulator_is_as_accurate_as_onnx_runtime(source: Path, compiled: Path) -> None:
    from repo_builder.steps import _qnn

    with np.load(SPECS / "evaluation.npz", allow_pickle=False) as data:
        images, labels = data["image"][:200], data["label"][:200]
    simulator = _qnn.load(compiled / "model.onnx")
    plain = onnxruntime.InferenceSession(source / "model.onnx")
    right = [
        np.mean([session.run(None, {"image": image[None]})[0].argmax() == label
                 for image, label in zip(images, labels, strict=True)])
        for session in (simulator, plain)
    ]  # fmt: skip
    assert right[1] > 0.9
    assert abs(right[0] - right[1]) <= 0.005


def test_triton_serves_the_context_binary(
    compiled: Path, tmp_path: Path, triton: StartTriton
) -> None:
    shutil.copytree(compiled, tmp_path / "models" / "digits" / "1")
    (tmp_path / "models" / "digits" / "config.pbtxt").write_text(CONFIG)
    server = triton(tmp_path / "models")
    images = np.load(SPECS / "evaluation.npz", allow_pickle=False)["image"][:3]
    client = InferenceServerClient(server.grpc_url)
    tensor = InferInput("image", [3, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(images)
    answer = client.infer("digits", [tensor], client_timeout=30).as_numpy("logits")
    from repo_builder.steps import _qnn

    session = _qnn.load(compiled / "model.onnx")
    wanted = [session.run(None, {"image": image[None]})[0][0] for image in images]
    np.testing.assert_array_equal(answer, wanted)


@pytest.mark.usefixtures("source")
def test_operators_that_the_npu_lacks_are_named(tmp_path: Path) -> None:
    net = Net(1, 4, 4)
    onnx.save(net.model(net.op("Relu", net.op("Det", "x"))), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(
        ModelError, match=r"HTP backend does not run Det \(1 node, first 'det0'\); replace it"
    ):
        compile_qnn.run(compile_qnn.Inputs(tmp_path), V75, tmp_path / "out")


@pytest.mark.usefixtures("source")
def test_a_gemm_with_factors_is_written_without(tmp_path: Path) -> None:
    net = Net(1, 8)
    scaled = net.op("Gemm", "x", net.weight(8, 4), net.weight(4), alpha=0.5, beta=2.0)
    onnx.save(net.model(scaled), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    facts = compile_qnn.run(compile_qnn.Inputs(tmp_path), V75, tmp_path / "out")
    assert facts.differences[0].relative < 0.01


@pytest.mark.usefixtures("source")
def test_dynamic_shapes_are_named(tmp_path: Path) -> None:
    net = Net("N", 3, "height", "width")
    onnx.save(net.model(net.conv("x", 3, 4, 1, 1)), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"dimension 3 is dynamic \(width\)"):
        compile_qnn.run(compile_qnn.Inputs(tmp_path), V75, tmp_path)
