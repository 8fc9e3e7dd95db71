"""`signal` end to end: built, proven, and asked in genuine Triton, in both runtimes of the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from triton_models import StartTriton
from workplace import repo_builder

from repo_builder.client import EdgeClient
from repo_builder.spec.raw_signal import RawLogMel
from repo_builder.steps import _signal_front

SAID = {"input": "x", "samples": 4000, "dtype": "int16", "bands": 20, "mel": "htk"}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that adds up every band's logarithms, for both runtimes."""
    folder = tmp_path_factory.mktemp("sound")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 20, 26])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 20, 1])],
        [numpy_helper.from_array(np.ones((26, 1), np.float32), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "net.onnx")
    spec = {"name": "sound", "version": "1.0.0", "source": {"onnx": "net.onnx"}}
    targets = ["cpu", "cpu-openvino"]
    text = json.dumps({**spec, "targets": targets, "signal": {"log_mel": SAID}})
    (folder / "sound.yaml").write_text(text)
    out = ("--out", folder / "build", "--store", folder / "store")
    ended = repo_builder("build", folder / "sound.yaml", *out)
    assert ended.returncode == 0, ended.stderr
    return folder / "build"


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_a_model_takes_sound(build: Path, triton: StartTriton, target: str) -> None:
    server = triton(build / target)
    random = np.random.default_rng(0)
    rows = (random.standard_normal((3, 4000)) * 3000).astype(np.int16)
    said = RawLogMel(**SAID).model_dump()  # type: ignore[arg-type]
    wanted = _signal_front.expected("log_mel", said, rows).sum(axis=2, keepdims=True)
    with EdgeClient(server.grpc_url) as client:
        together = client.infer("sound", {"x": rows}).outputs["y"]
        alone = client.infer("sound", {"x": rows[:1]}).outputs["y"]
    # OpenVINO computes in bf16 where the processor has it.
    allowed = 1e-3 if target == "cpu" else 2e-2
    np.testing.assert_allclose(together, wanted, rtol=allowed)
    np.testing.assert_allclose(alone, wanted[:1], rtol=allowed)
