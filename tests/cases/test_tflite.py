"""int8 TFLite against ONNX Runtime's int8, both really run.

Each operator alone is within one step of its output's scale. Whole nets with random weights add
roundings up: ONNX Runtime differs from itself by 3 steps between its optimization levels, so they
get a share instead; the example models must keep one step on all of their evaluation data.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import nets
import numpy as np
import pytest
from nets import Net
from qdq_models import quantize, samples, steps_apart

from repo_builder.steps import _runtimes, compile_tflite
from repo_builder.steps import quantize as quantize_step
from repo_builder.tflite import write
from repo_builder.tflite.ports import Ports
from repo_builder.tflite.runner import Runner


@pytest.fixture(scope="module", autouse=True)
def _litert(unavailable: Callable[[str], NoReturn]) -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        unavailable("the extra `tflite` is not installed")


SIZE = np.array([1, 4, 12, 12], np.int64)
SINGLE: dict[str, Callable[[Net, str], str]] = {
    "Conv": lambda n, x: n.conv(x, 4, 8, 3, 3, pads=[1] * 4),
    "Conv-strided": lambda n, x: n.conv(x, 4, 8, 3, 3, strides=[2, 2], pads=[1] * 4),
    "Conv-lopsided": lambda n, x: n.conv(x, 4, 8, 3, 2, pads=[0, 1, 2, 0]),
    "Conv-dilated": lambda n, x: n.conv(x, 4, 8, 3, 3, dilations=[2, 2], pads=[2] * 4),
    "Conv-same-lower": lambda n, x: n.conv(x, 4, 4, 2, 2, auto_pad="SAME_LOWER"),
    "Conv-depthwise": lambda n, x: n.conv(x, 4, 8, 3, 3, group=4),
    "Conv-Relu": lambda n, x: n.op("Relu", n.conv(x, 4, 8, 1, 1)),
    "ConvTranspose": lambda n, x: n.op(
        "ConvTranspose", x, n.weight(4, 3, 3, 3), n.weight(3), strides=[2, 2], pads=[1, 0, 0, 1]
    ),
    "Add": lambda n, x: n.op("Add", x, n.op("Relu", x)),
    "Mul": lambda n, x: n.op("Mul", x, n.op("Relu", x)),
    "Mul-constant": lambda n, x: n.op("Mul", x, n.weight(4, 1, 1)),
    "Sub-constant": lambda n, x: n.op("Sub", n.weight(4, 1, 1), x),
    "Div": lambda n, x: n.op("Div", x, n.constant(np.float32(-1.7))),
    "AveragePool": lambda n, x: n.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2]),
    "AveragePool-padded": lambda n, x: n.op(
        "AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    ),
    "MaxPool-ceil": lambda n, x: n.op(
        "MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
    ),
    "MaxPool-padded": lambda n, x: n.op(
        "MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    ),
    "GlobalAveragePool": lambda n, x: n.op("GlobalAveragePool", x),
    "LeakyRelu": lambda n, x: n.op("LeakyRelu", x, alpha=0.1),
    "PRelu": lambda n, x: n.op("PRelu", x, n.weight(4, 1, 1, scale=0.3)),
    "HardSwish": lambda n, x: n.op("HardSwish", x),
    "HardSigmoid": lambda n, x: n.op("HardSigmoid", x),
    "Sigmoid": lambda n, x: n.op("Sigmoid", x),
    "Tanh": lambda n, x: n.op("Tanh", x),
    "Softmax": lambda n, x: n.op("Softmax", x, axis=1),
    "Clip": lambda n, x: n.op("Clip", x, n.constant(np.float32(-0.5)), n.constant(np.float32(1.2))),
    "Resize-linear": lambda n, x: n.op("Resize", x, "", "", n.constant(SIZE), mode="linear"),
    "Resize-nearest": lambda n, x: n.op("Resize", x, "", "", n.constant(SIZE), mode="nearest"),
    "Concat": lambda n, x: n.op("Concat", x, n.op("Relu", x), axis=1),
    "Pad": lambda n, x: n.op(
        "Pad", x, n.constant(np.array([0, 0, 1, 2, 0, 0, 0, 1])), n.constant(np.float32(0.5))
    ),
    "Slice": lambda n, x: n.op(
        "Slice", x, *(n.constant(np.array(v)) for v in ([-5, 1], [99, 3], [3, 1], [2, 1]))
    ),
    "Transpose": lambda n, x: n.op("Relu", n.op("Transpose", x, perm=[0, 3, 1, 2])),
    "Flatten-Gemm": lambda n, x: n.op(
        "Gemm", n.op("Flatten", x), n.weight(7, 144), n.weight(7), transB=1
    ),
    "MatMul-3d": lambda n, x: n.op(
        "MatMul", n.op("Reshape", x, n.constant(np.array([1, 4, 36]))), n.weight(36, 5)
    ),
}


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("name", SINGLE)
def test_one_operator_is_within_one_step(name: str, reference: bool, tmp_path: Path) -> None:
    net = Net(1, 4, 6, 6, seed=11)
    # Adding first, because ONNX Runtime quantizes pools and reshapes only behind something else.
    model = quantize(net.model(SINGLE[name](net, net.op("Add", "x", "x"))), tmp_path)
    steps = steps_apart(write(model), model, samples(model), reference=reference)
    # The sum before and a second operator may each have rounded.
    assert steps.max() <= 1 + name.startswith(("Flatten", "MatMul", "Softmax", "Tanh"))
    assert (steps <= 1).mean() > 0.98


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("family", nets.ALL)
def test_families_of_nets_agree(family: str, reference: bool, tmp_path: Path) -> None:
    model = quantize(nets.ALL[family](), tmp_path)
    steps = steps_apart(write(model), model, samples(model), reference=reference)
    assert steps.max() <= 6
    assert (steps <= 1).mean() > 0.85


@pytest.mark.parametrize("name", ["digits", "vibration", "shapes"])
def test_example_models_equal_onnx_on_evaluation_data(name: str, tmp_path: Path) -> None:
    specs = Path("model_specs") / name
    for folder in ("float", "qdq", "tflite"):
        (tmp_path / folder).mkdir()
    shutil.copyfile(specs / f"{name}.onnx", tmp_path / "float" / "model.onnx")
    quantized = quantize_step.run(
        quantize_step.Inputs(tmp_path / "float", specs),
        quantize_step.Params("u8s8", samples=100, whole=True),
        tmp_path / "qdq",
    )
    assert quantized.floating == {}
    facts = compile_tflite.run(
        compile_tflite.Inputs(tmp_path / "qdq", specs),
        compile_tflite.Params(rows=100),
        tmp_path / "tflite",
    )
    assert (facts.data, facts.rows) == ("evaluation", 100)
    assert facts.litert.max_steps <= 1
    assert facts.reference.within_one_step > 0.99
    check_that_scores_are_the_devices(tmp_path / "tflite", specs)


def check_that_scores_are_the_devices(folder: Path, specs: Path) -> None:
    """What `verify` runs are the kernels that devices share, not those that agree best."""
    scored = _runtimes.load(folder, "litert")
    (given,) = scored.inputs
    with np.load(specs / "evaluation.npz", allow_pickle=False) as data:
        rows = {given.name: data[given.name][:20]}
    devices = Runner((folder / "model.tflite").read_bytes(), Ports.read(folder), reference=True)
    for name, array in devices.run(rows).items():
        np.testing.assert_array_equal(scored.run(rows)[name], array)


def test_unsigned_activations_mean_the_same(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    model = quantize(nets.plain_cnn(), tmp_path, activation_type=QuantType.QUInt8)
    steps = steps_apart(write(model), model, samples(model), reference=False)
    assert steps.max() <= 1


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = quantize(nets.detector(), tmp_path)
    assert write(model).data == write(model).data
