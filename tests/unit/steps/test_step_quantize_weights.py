"""Weights alone in integers, against the same numbers unpacked and multiplied in numpy."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node as op
from packed import unpacked
from workbench import Bench, cnn, make

from repo_builder.base.errors import ModelError, StepError
from repo_builder.steps import _grid, _reads, _rounding

ROWS = 48


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def correlated(seed: int, rows: int, width: int) -> Any:
    """Rows whose values go together, as activations do."""
    return (normal(seed, rows, width // 3) @ normal(seed + 1, width // 3, width)).astype(np.float32)


W1, B1, W2 = normal(1, 64, 50), normal(2, 64), normal(3, 64, 10)
X = correlated(4, ROWS, 50)


def products() -> onnx.ModelProto:
    """50 inputs, no multiple of a block: a Gemm with a bias, a MatMul without."""
    return make(
        [
            op("Gemm", ["x", "w1", "b1"], ["h"], "first", transB=1),
            op("Relu", ["h"], ["r"]),
            op("MatMul", ["r", "w2"], ["y"], "second"),
        ],
        {"x": ["N", 50]},
        {"y": ["N", 10]},
        {"w1": W1, "b1": B1, "w2": W2},
    )


def answers(folder: Path, x: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    path = folder / "model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def run(bench: Bench, model: onnx.ModelProto, x: Any = X, **params: Any) -> Any:
    data = {"calibration": bench.data("calibration", x=x)} if params.get("repair") else {}
    return bench.run("quantize-weights", params=params, model=bench.model(model), **data)


class TestGrid:
    def test_by_hand(self) -> None:
        weights = np.array([[-1.0, 0.25, 2.0], [0.0, 0.0, 0.0]])
        even = _grid.fit(weights, low=-127, high=127, symmetric=True, sharing="channel")
        assert even.scale[:, 0] == pytest.approx([2 / 127, 1])
        assert even.nearest(weights).tolist() == [[-64, 16, 127], [0, 0, 0]]
        uneven = _grid.fit(weights, low=0, high=15, symmetric=False, sharing="channel")
        assert uneven.scale[:, 0] == pytest.approx([0.2, 1])
        assert uneven.zero[:, 0].tolist() == [5, 0]
        assert uneven.nearest(weights).tolist() == [[0, 6, 15], [0, 0, 0]]
        assert uneven.values(uneven.nearest(weights))[0] == pytest.approx([-1, 0.2, 2])

    def test_blocks_and_a_shared_scale(self) -> None:
        weights = np.array([[1.0, 2.0, 8.0], [4.0, 4.0, 0.5]])
        blocks = _grid.fit(weights, low=-7, high=7, symmetric=True, sharing="block", block=2)
        assert blocks.scale * 7 == pytest.approx(np.array([[2, 8], [4, 0.5]]))
        shared = _grid.fit(weights, low=-7, high=7, symmetric=True, sharing="tensor")
        assert shared.scale * 7 == pytest.approx(np.array([[8]]))


class TestRounding:
    def test_it_is_as_good_as_trying_all(self) -> None:
        weights, x = normal(5, 12, 6), correlated(6, 40, 6)
        gram = (x.T @ x / len(x)).astype(np.float64)
        grid = _grid.fit(weights, low=-7, high=7, symmetric=True, sharing="channel")
        below = np.clip(np.floor(weights / grid.scale), -7, 7)
        best = np.min(
            [
                _rounding.loss(weights, np.clip(below + up, -7, 7) * grid.scale, gram)
                for up in itertools.product((0, 1), repeat=6)
            ],
            axis=0,
        )
        found = _rounding.loss(weights, grid.values(_rounding.rounded(weights, grid, gram)), gram)
        nearest = _rounding.loss(weights, grid.values(grid.nearest(weights)), gram)
        assert (found <= nearest).all()
        assert found.sum() < 1.2 * best.sum() < 0.6 * nearest.sum()

    def test_the_loss_is_the_mean_square_of_the_answers(self) -> None:
        weights, other, x = normal(7, 3, 5), normal(8, 3, 5), normal(9, 30, 5)
        expected = ((x @ (other - weights).T) ** 2).mean(axis=0)
        assert _rounding.loss(weights, other, x.T @ x / 30) == pytest.approx(expected, rel=1e-4)

    def test_inputs_that_are_never_there_keep_the_nearest(self) -> None:
        weights = normal(10, 4, 5)
        grid = _grid.fit(weights, low=-7, high=7, symmetric=True, sharing="channel")
        found = _rounding.rounded(weights, grid, np.zeros((5, 5)))
        assert (found == grid.nearest(weights)).all()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 2], "group": 2},
        {"group": 4, "pads": [1, 1, 1, 1]},
    ],
)
def test_columns_times_weights_are_the_convolution(tmp_path: Path, more: dict[str, Any]) -> None:
    groups = more.get("group", 1)
    weights, x = normal(11, 8, 4 // groups, 3, 3), normal(12, 2, 4, 9, 8)
    node = op("Conv", ["x", "w"], ["y"], **more)
    made = make([node], {"x": [2, 4, 9, 8]}, {"y": ["a", "b", "c", "d"]}, {"w": weights})
    onnx.save(made, tmp_path / "model.onnx")
    expected = answers(tmp_path, x)
    columns = _reads.columns(node, x, weights.shape, 10**6)
    matrices = _reads.matrices(node, weights)
    assert matrices is not None
    found = columns @ matrices.transpose(0, 2, 1)  # groups, count, outputs
    channels_last = expected.transpose(0, 2, 3, 1).reshape(-1, 8)
    assert np.concatenate(list(found), axis=1) == pytest.approx(channels_last, abs=1e-4)


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_products_are_those_of_the_unpacked_numbers(
    bench: Bench, weights: str, symmetric: bool
) -> None:
    out, facts = run(bench, products(), weights=weights, activations="dynamic", symmetric=symmetric)
    first, second = unpacked(out)
    steps = 15 if weights == "int4" else 255
    assert np.abs(first - W1.T).max() < np.ptp(W1) / steps
    model = onnx.load(out / "model.onnx")
    for node in model.graph.node:  # the same numbers in fp32
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    exact = bench.model(model)
    expected = np.maximum(X @ first + B1, 0) @ second
    assert answers(exact, X) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    rounded = answers(out, X)
    off = np.linalg.norm(rounded - expected) / np.linalg.norm(expected)
    assert 1e-4 < off < 0.02  # 8 bits of activations, which fp32 is not
    assert answers(out, X[:1]) == pytest.approx(rounded[:1], rel=1e-5)  # rows do not mix
    counted = {"Gemm": 1, "MatMul": 1}
    assert (facts.in_4_bits if weights == "int4" else facts.in_8_bits) == counted


@pytest.mark.parametrize("symmetric", [True, False])
def test_four_bits_alone_compute_in_fp32(bench: Bench, symmetric: bool) -> None:
    out, _ = run(bench, products(), weights="int4", symmetric=symmetric)
    first, second = unpacked(out)
    expected = np.maximum(X @ first + B1, 0) @ second
    assert answers(out, X) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_eight_bits_alone_are_folded_to_the_same_numbers(
    bench: Bench, per_channel: bool, symmetric: bool
) -> None:
    params = {"per_channel": per_channel, "symmetric": symmetric}
    model = products()
    out, facts = run(bench, model, weights="int8", **params)
    changed = []
    for weights, axis in ((W1, 1), (W2, 0)):
        over = axis if per_channel else None
        low, high = (f(weights, axis=over, keepdims=True) for f in (np.min, np.max))
        if symmetric:
            scale, zero = np.maximum(-low, high) / 127, 0
        else:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
            scale = (high - low) / 255
            zero = np.rint(-low / scale) - 128
        integers = np.clip(np.rint(weights / scale) + zero, -127 if symmetric else -128, 127)
        changed.append((integers - zero) * scale)
    expected = np.maximum(X @ changed[0].T + B1, 0) @ changed[1]
    assert answers(out, X) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert facts.in_8_bits == {"Gemm": 1, "MatMul": 1}
    before = len(model.SerializeToString())
    assert (out / "model.onnx").stat().st_size < 0.45 * before


def test_convolutions_have_8_bits_beside_4_bit_products(bench: Bench) -> None:
    out, facts = run(bench, cnn(mean="pool"), weights="int4")
    assert (facts.in_4_bits, facts.in_8_bits) == ({"Gemm": 1}, {"Conv": 2})
    x = normal(13, 4, 3, 16, 16)
    plain = answers(bench.model(cnn(mean="pool")), x)
    assert answers(out, x) == pytest.approx(plain, abs=0.2 * np.abs(plain).max())


def test_what_is_compiled_keeps_its_integers(bench: Bench) -> None:
    made, _ = run(bench, cnn(mean="pool"), weights="int8")
    params = {"precision": "int8", "weights_only": True}
    out, _ = bench.run("compile-onnxruntime", params=params, model=made)
    assert (out / "model.onnx").stat().st_size == (made / "model.onnx").stat().st_size


def test_round_brings_four_bits_nearer_and_bias_takes_the_mean(bench: Bench) -> None:
    plain = answers(bench.model(products()), X)
    errors = {}
    for repair in ((), ("round",), ("bias", "round")):
        out, facts = run(bench, products(), weights="int4", repair=repair)
        errors[repair] = answers(out, X) - plain
        assert facts.rounded == (("first", "second") if "round" in repair else ())
        assert facts.corrected == (("first",) if "bias" in repair else ())
    size = {repair: np.linalg.norm(error) for repair, error in errors.items()}
    assert size["round",] < 0.8 * size[()]
    assert size["bias", "round"] < 0.8 * size[()]
    first, first_plain = (
        make(
            [op("Gemm", ["x", "w1", "b1"], ["y"], "only", transB=1)],
            {"x": ["N", 50]},
            {"y": ["N", 64]},
            {"w1": W1, "b1": B1},
        )
        for _ in range(2)
    )
    out, facts = run(bench, first, weights="int4", repair=("bias",))
    assert (facts.rounded, facts.corrected) == ((), ("only",))
    moved = (answers(out, X) - answers(bench.model(first_plain), X)).mean(axis=0)
    bare, _ = run(bench, first_plain, weights="int4")
    without = (answers(bare, X) - answers(bench.model(first_plain), X)).mean(axis=0)
    assert np.abs(moved).max() < 0.01 * np.abs(without).max()


def test_uneven_channels_are_evened_for_weights_too(bench: Bench) -> None:
    """A row of weights has one scale, which those for large channels leave nothing of."""
    uneven = (2.0 ** np.linspace(-6, 6, 64)).astype(np.float32)
    model = make(
        [
            op("Gemm", ["x", "w1", "b1"], ["h"], "first", transB=1),
            op("Relu", ["h"], ["r"]),
            op("MatMul", ["r", "w2"], ["y"], "second"),
        ],
        {"x": ["N", 50]},
        {"y": ["N", 10]},
        {"w1": W1 * uneven[:, None], "b1": B1 * uneven, "w2": W2 / uneven[:, None]},
    )
    _, plain = run(bench, model, weights="int8", repair=("round",))
    out, facts = run(bench, model, weights="int8", repair=("equalize", "round"))
    assert facts.nearest > 0.05
    assert facts.balanced.keys() == {"second"}
    assert facts.error < 0.2 * min(facts.nearest, plain.error)
    expected = np.maximum(X @ W1.T + B1, 0) @ W2
    off = np.linalg.norm(answers(out, X) - expected) / np.linalg.norm(expected)
    assert off < 0.02


def test_shared_weights_are_written_once_and_stay_as_they_are(bench: Bench) -> None:
    shared = make(
        [
            op("MatMul", ["x", "w"], ["h"], "one"),
            op("Relu", ["h"], ["r"]),
            op("MatMul", ["r", "w"], ["y"], "two"),
        ],
        {"x": ["N", 50]},
        {"y": ["N", 50]},
        {"w": normal(14, 50, 50)},
    )
    out, facts = run(bench, shared, weights="int4", repair=("round",))
    assert facts.rounded == ()
    one, two = unpacked(out)
    assert (one == two).all()
    assert answers(out, X) == pytest.approx(np.maximum(X @ one, 0) @ one, rel=1e-4, abs=1e-3)
    assert len(onnx.load(out / "model.onnx").graph.initializer) == 2


def test_there_are_no_four_bit_convolutions(bench: Bench) -> None:
    only = make(
        [op("Conv", ["x", "w"], ["y"], "conv")],
        {"x": ["N", 3, 8, 8]},
        {"y": ["N", 4, 6, 6]},
        {"w": normal(15, 4, 3, 3, 3)},
    )
    with pytest.raises(StepError, match="no 4-bit convolutions; write .* activations: none"):
        run(bench, only, weights="int4")
    with pytest.raises(StepError, match="no matrix product of stored weights"):
        run(bench, only, weights="int8", activations="dynamic")
    with pytest.raises(ModelError, match="matches no node"):
        run(bench, only, weights="int8", exclude=("nothing*",))
    with pytest.raises(StepError, match="no weights of convolutions or matrix products"):
        run(bench, only, weights="int8", exclude=("conv",))


def test_a_quantized_source_is_refused(bench: Bench) -> None:
    packed, _ = run(bench, products(), weights="int4")
    with pytest.raises(ModelError, match="is quantized already"):
        bench.run("quantize-weights", params={"weights": "int4"}, model=packed)


def test_the_same_inputs_give_the_same_bytes(bench: Bench) -> None:
    params = {"weights": "int4", "repair": ("equalize", "smooth", "bias", "round")}
    first, second = (run(bench, products(), **params)[0] / "model.onnx" for _ in range(2))
    assert first.read_bytes() == second.read_bytes()
