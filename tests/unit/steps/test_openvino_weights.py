"""Weights alone for OpenVINO: unpacked to the same numbers, activations rounded only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node as op
from packed import in_8_bits, unpacked
from workbench import Bench, cnn, make

ov = pytest.importorskip("openvino")

IN_F32 = {"INFERENCE_PRECISION_HINT": "f32"}
X = np.random.default_rng(0).normal(0, 1, (16, 64)).astype(np.float32)
W1, W2 = (np.random.default_rng(n).normal(0, 0.1, (64, 64)).astype(np.float32) for n in (1, 2))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def built(bench: Bench, **params: Any) -> Any:
    """The IR of two products, the facts, and the folder of packed weights that it came from."""
    model = make(
        [
            op("MatMul", ["x", "w1"], ["h"], "first"),
            op("Relu", ["h"], ["r"], "relu"),
            op("MatMul", ["r", "w2"], ["y"], "y"),
        ],
        {"x": ["N", 64]},
        {"y": ["N", 64]},
        {"w1": W1, "w2": W2},
    )
    packed, _ = bench.run("quantize-weights", params=params, model=bench.model(model))
    params = {"precision": "int8", "activations": params["activations"]}
    out, facts = bench.run("compile-openvino", params=params, model=packed)
    return ov.Core().read_model(out / "model.xml"), facts, packed


def answers(model: Any, **more: Any) -> Any:
    return ov.compile_model(model, "CPU", {**IN_F32, **more})(X)[0]


def by_hand(packed: Path) -> Any:
    """The answers in numpy, with the weights that lie in the ONNX file."""
    first, second = unpacked(packed) or [in_8_bits(packed, name) for name in ("w1", "w2")]
    return np.maximum(X @ first, 0) @ second


def off(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("weights", "error"), [("int8", 0.02), ("int4", 0.3)])
def test_weights_alone_compute_in_floating_point(
    bench: Bench, weights: str, error: float, symmetric: bool
) -> None:
    model, facts, packed = built(bench, weights=weights, activations="none", symmetric=symmetric)
    expected = by_hand(packed)
    assert off(answers(model), expected) < 1e-5
    assert 1e-4 < off(expected, np.maximum(X @ W1, 0) @ W2) < error
    assert facts.quantized == {"MatMul": 2}
    # What the IR forbids, and OpenVINO does where nobody says otherwise:
    if symmetric or weights == "int4":
        assert off(answers(model, DYNAMIC_QUANTIZATION_GROUP_SIZE="32"), expected) > 1e-3


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_dynamic_rounds_what_products_read(bench: Bench, weights: str) -> None:
    model, _, packed = built(bench, weights=weights, activations="dynamic", symmetric=True)
    expected = by_hand(packed)
    assert 1e-3 < off(answers(model), expected) < 0.03
    assert off(answers(model, DYNAMIC_QUANTIZATION_GROUP_SIZE="0"), expected) < 1e-5


def test_excluded_weights_stay(bench: Bench) -> None:
    _, facts, _ = built(bench, weights="int8", activations="none", exclude=("y",))
    assert (facts.quantized, facts.floating) == ({"MatMul": 1}, {"MatMul": 1})


def test_convolutions_keep_their_bytes(bench: Bench) -> None:
    packed, _ = bench.run(
        "quantize-weights", params={"weights": "int8"}, model=bench.model(cnn(mean="pool"))
    )
    params = {"precision": "int8", "activations": "none"}
    out, facts = bench.run("compile-openvino", params=params, model=packed)
    assert facts.quantized == {"Convolution": 2, "MatMul": 1}
    assert (out / "model.bin").stat().st_size < 1.2 * (8 * 3 * 9 + 8 * 8 * 9 + 8 * 5 + 4 * 40)
