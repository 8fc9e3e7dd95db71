"""Integers other than u8s8 with a zero point, ranges by mean square error, and repairs of QDQ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_node as op
from workbench import Bench, make

from repo_builder.steps import _calibrate


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


X = (normal(1, 64, 8) @ normal(2, 8, 24)).astype(np.float32)
W, B = normal(3, 24, 12), normal(4, 12)


def product() -> onnx.ModelProto:
    return make(
        [op("Gemm", ["x", "w", "b"], ["y"], "only")],
        {"x": ["N", 24]},
        {"y": ["N", 12]},
        {"w": W, "b": B},
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def quantized(bench: Bench, **params: Any) -> Any:
    """The model as a protobuf, its folder and the facts."""
    out, facts = bench.run(
        "quantize",
        params={"scheme": "u8s8", "samples": 64, **params},
        model=bench.model(product()),
        calibration=bench.data("calibration", x=X),
    )
    return onnx.load(out / "model.onnx"), out, facts


def answers(folder: Path) -> Any:
    """As the file is written, node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = folder / "model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


def rounded(values: Any, low: float, high: float, levels: int, zero: int) -> Any:
    scale = np.float32((high - low) / levels)
    integers = np.clip(np.rint(values / scale) + zero, 0, levels)
    return (integers - zero) * scale


def stored(model: onnx.ModelProto, name: str) -> Any:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def weights(most: int) -> Any:
    scale = np.abs(W).max(axis=0) / most
    return np.clip(np.rint(W / scale), -most, most) * scale


@pytest.mark.parametrize(
    ("params", "levels", "most"),
    [
        ({"symmetric": True}, 255, 127),
        ({"activation_bits": 16, "symmetric": True}, 65535, 127),
        ({"activation_bits": 16, "symmetric": True, "weight_bits": 4}, 65535, 7),
        ({"symmetric": True, "weight_bits": 4}, 255, 7),
    ],
)
def test_the_numbers_are_those_worked_out_by_hand(
    bench: Bench, params: dict[str, Any], levels: int, most: int
) -> None:
    model, out, _ = quantized(bench, **params)
    kinds = {t.data_type for t in model.graph.initializer if "zero_point" in t.name}
    assert (TensorProto.UINT16 in kinds) == (levels > 255)
    assert (TensorProto.INT4 in kinds) == (most == 7)
    assert int(stored(model, "x_zero_point")) == (levels + 1) // 2
    largest = float(np.abs(X).max())
    read = rounded(X, -largest, largest, levels, (levels + 1) // 2)
    most_made = float(np.abs(X @ W + B).max())
    made = read @ weights(most) + B
    expected = rounded(made, -most_made, most_made, levels, (levels + 1) // 2)
    # Ranges have 5 digits, so one in 16 bits may come out two numbers further.
    off = np.abs(answers(out) - expected) / (2 * most_made / levels)
    assert off.max() < (2.5 if levels > 255 else 1.01)
    assert off.mean() < (0.7 if levels > 255 else 0.05)


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_keeps_the_scales_and_lowers_the_error(bench: Bench, bits: int) -> None:
    exact = X @ W + B
    off = {}
    for repair in ((), ("round",), ("bias", "round")):
        params = {"weight_bits": bits, "activation_bits": 16, "repair": repair}
        model, out, facts = quantized(bench, **params)
        off[repair] = np.linalg.norm(answers(out) - exact)
        assert facts.rounded == (("only",) if repair else ())
        assert facts.corrected == (("only",) if "bias" in repair else ())
        scales = stored(model, "w_scale")
        assert scales == pytest.approx(np.abs(W).max(axis=0) / (127 if bits == 8 else 7))
    assert off["round",] < 0.6 * off[()]
    assert off["bias", "round"] < 0.6 * off[()]


class TestMeanSquareError:
    def histogram(self, values: Any) -> _calibrate.Histogram:
        found = _calibrate.Histogram()
        found.add(np.asarray(values, np.float32))
        return found

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_it_is_the_best_of_all_ranges(self, symmetric: bool) -> None:
        values = np.append(normal(5, 200_000), np.float32(14))
        values = values if symmetric else np.abs(values)
        found = _calibrate.choose(self.histogram(values), "mse", 0, symmetric)
        assert found.high < 0.9 * values.max()

        def error(high: float) -> float:
            low, zero = (-high, 128) if symmetric else (0.0, 0)
            return float(((rounded(values, low, high, 255, zero) - values) ** 2).mean())

        best = min(error(high) for high in np.linspace(0.05, 1, 400) * np.abs(values).max())
        assert error(found.high) < 1.05 * best
        assert error(found.high) < 0.95 * error(float(np.abs(values).max()))

    def test_even_values_keep_their_range(self) -> None:
        found = _calibrate.choose(self.histogram(np.linspace(-1, 3, 5000)), "mse", 0, False)
        assert (found.low, found.high) == pytest.approx((-1, 3), rel=0.05)

    def test_a_few_values_are_kept_exactly(self) -> None:
        found = _calibrate.choose(self.histogram([0.0, 0.0, 5.0]), "mse", 0, False)
        assert (found.low, found.high) == pytest.approx((0, 5), rel=1e-3)
        nothing = _calibrate.choose(self.histogram([0.0, 0.0]), "mse", 0, False)
        assert (nothing.low, nothing.high) == (0, 0)
