"""Weights alone for OpenVINO: unpacked to the same numbers, activations rounded only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node as op
from workbench import Bench, make

ov = pytest.importorskip("openvino")

IN_F32 = {"INFERENCE_PRECISION_HINT": "f32"}
X = np.random.default_rng(0).normal(0, 1, (16, 64)).astype(np.float32)
W1, W2 = (np.random.default_rng(n).normal(0, 0.1, (64, 64)).astype(np.float32) for n in (1, 2))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def built(bench: Bench, **params: Any) -> Any:
    """The IR of two products, and the facts."""
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
    params = {"precision": "int8", **params}
    out, facts = bench.run("compile-openvino", params=params, model=bench.model(model))
    return ov.Core().read_model(out / "model.xml"), facts


def answers(model: Any, **more: Any) -> Any:
    return ov.compile_model(model, "CPU", {**IN_F32, **more})(X)[0]


def by_hand(model: Any) -> Any:
    """The answers in numpy, with the weights that lie in the file."""
    values = X
    for product in (o for o in model.get_ordered_ops() if o.get_type_name() == "MatMul"):
        constant = ov.Model([product.input_value(1)], [], "weights")
        weights = ov.compile_model(constant, "CPU", IN_F32)({})[0]
        turned = product.get_attributes()["transpose_b"]
        values = values @ (weights.T if turned else weights)
        if product.get_friendly_name() == "first":
            values = np.maximum(values, 0)
    return values


def off(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("weights", "error"), [("int8", 0.02), ("int4", 0.3)])
def test_weights_alone_compute_in_floating_point(
    bench: Bench, weights: str, error: float, symmetric: bool
) -> None:
    model, facts = built(bench, weights=weights, activations="none", symmetric=symmetric)
    expected = by_hand(model)
    assert off(answers(model), expected) < 1e-5
    assert 1e-4 < off(expected, np.maximum(X @ W1, 0) @ W2) < error
    assert facts.quantized == {"MatMul": 2}
    # What the IR forbids, and OpenVINO does where nobody says otherwise:
    assert off(answers(model, DYNAMIC_QUANTIZATION_GROUP_SIZE="32"), expected) > 1e-3


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_dynamic_rounds_what_products_read(bench: Bench, weights: str) -> None:
    model, _ = built(bench, weights=weights, activations="dynamic", symmetric=True)
    expected = by_hand(model)
    assert 1e-3 < off(answers(model), expected) < 0.03
    assert off(answers(model, DYNAMIC_QUANTIZATION_GROUP_SIZE="0"), expected) < 1e-5


def test_excluded_weights_stay(bench: Bench) -> None:
    _, facts = built(bench, weights="int8", activations="none", exclude=("y",))
    assert (facts.quantized, facts.floating) == ({"MatMul": 1}, {"MatMul": 1})
