"""What TensorRT would refuse is found without it; and what `compile-tensorrt` asks for."""

from __future__ import annotations

import ctypes.util
import re
import sys
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from fakes import fake_tensorrt
from onnx import numpy_helper
from qdq_models import Net, quantize

from repo_builder.base.errors import ModelError, StepError, UsageError
from repo_builder.steps import compile_tensorrt
from repo_builder.trt import check, probe, record, request

SYMMETRIC: dict[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
}


def test_symmetric_int8_is_fine(tmp_path: Path) -> None:
    model = quantize(nets.plain_cnn(), tmp_path, extra_options=SYMMETRIC)
    assert check.problems(model, "int8") == []


def test_zero_points_are_named(tmp_path: Path) -> None:
    found = check.problems(quantize(nets.plain_cnn(), tmp_path), "int8")
    assert found
    assert all("Linear node '" in problem.field for problem in found)
    assert {problem.what for problem in found} == {"its zero point is not 0"}


def test_one_reason_is_one_line_however_many_nodes(tmp_path: Path) -> None:
    (found,) = check.problems(quantize(nets.plain_cnn(), tmp_path), "int8")
    assert re.fullmatch(r"\w+Linear node '.+' and \d+ other nodes", found.field)


def test_unsigned_is_named(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    model = quantize(nets.plain_cnn(), tmp_path, activation_type=QuantType.QUInt8)
    assert "uint8, TensorRT takes int8" in {p.what for p in check.problems(model, "int8")}


def test_precision_must_be_in_the_model() -> None:
    model = nets.plain_cnn()
    assert [p.what for p in check.problems(model, "int8")] == [
        "asked for int8, but nothing is quantized"
    ]
    assert check.problems(model, "fp32") == []
    # Where fp16 overflows everywhere, all of a model may stay in fp32; only DLA has none.
    assert check.problems(model, "fp16") == []
    (only,) = check.problems(model, "fp16", dla=True)
    assert only.what == "DLA computes in fp16 only, and all of the model is in fp32"
    half = nets.plain_cnn()
    for weight in half.graph.initializer:
        values = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    assert check.problems(half, "fp16", dla=True) == []
    assert "DLA in fp32" in check.problems(half, "fp32", dla=True)[0].what


def test_operators_that_tensorrt_lacks() -> None:
    net = Net(1, 4, 4)
    found = check.problems(net.model(net.op("Relu", net.op("Det", "x"))), "fp32")
    assert [str(problem) for problem in found] == [
        "TensorRT has no Det (1 node, first 'det0'); replace it, or cut the model before it"
    ]


def compile_(model: onnx.ModelProto, folder: Path, **params: Any) -> Any:
    onnx.save(model, folder / "model.onnx")
    (folder / "out").mkdir()
    return compile_tensorrt.run(
        compile_tensorrt.Inputs(folder),
        compile_tensorrt.Params(**params),
        folder / "out",
        folder.parent / "kept",
    )


def test_without_a_gpu_the_plan_is_prepared(tmp_path: Path) -> None:
    facts = compile_(nets.plain_cnn(), tmp_path, at="device", batches=(1, 4, 8), workspace_mb=32)
    assert facts.level.name == "prepared"
    assert facts.plan_size == 0
    wanted = request.read(tmp_path / "out")
    assert wanted.profiles == {"x": request.Profile((1, 3, 12, 10), (4, 3, 12, 10), (8, 3, 12, 10))}
    assert wanted.workspace_mb == 32
    (tmp_path / "out" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelError, match=r"is not the model that tensorrt\.json asks for"):
        request.read(tmp_path / "out")
    (tmp_path / "out" / request.FILE).write_text('{"profiles": {}, "modell": ""}')
    with pytest.raises(ModelError, match="not a request for a plan"):
        request.read(tmp_path / "out")


def test_a_builder_without_a_gpu_says_so_in_one_line(tmp_path: Path) -> None:
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(UsageError, match=r"no NVIDIA driver here .*; .*--scheduler"):
        compile_(nets.plain_cnn(), tmp_path, at="builder", batches=(1, 1, 8))


def test_a_builder_keeps_what_tensorrt_learnt_of_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt.module("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(probe, "gpu", lambda *_: ("NVIDIA L4", "8.9"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        facts = compile_(
            nets.plain_cnn(),
            tmp_path / name,
            at="builder",
            batches=(1, 8, 8),
            version_compatible=True,
        )
    assert facts.level.name == "compiled"
    assert trt.config.flags == ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]
    assert trt.config.cache.content == b"+timed"
    assert record.read(tmp_path / "second" / "out").gpu == "NVIDIA L4"
    (tmp_path / "third").mkdir()
    with pytest.raises(StepError, match=r"compute capability 8\.9, the target 8\.7"):
        compile_(nets.plain_cnn(), tmp_path / "third", at="builder", compute_capability="8.7")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    net = Net("N", 3, "height", "width")
    model = net.model(net.op("Compress", "x", net.constant(np.array([True])), axis=1))
    with pytest.raises(ModelError) as caught:
        compile_(model, tmp_path, at="device")
    assert [problem.what for problem in caught.value.problems] == [
        "TensorRT has no Compress (1 node, first 'compress0')",
        "dimension 2 is dynamic (height)",
        "dimension 3 is dynamic (width)",
    ]
    fix = "write `sizes: {height: ..., width: ...}` in the spec"
    assert caught.value.problems[1].fix == fix


def test_dla_takes_one_batch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="DLA takes one shape"):
        compile_(nets.plain_cnn(), tmp_path, at="device", dla_core=0, batches=(1, 2, 4))
