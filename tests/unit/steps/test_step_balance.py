"""Channels of very different size: moved into the weights, to the last bit, and int8 near again."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as op
from workbench import Bench, make

from repo_builder.steps import _balance, _data, _prepare, _runtimes, _same

CHANNELS = 16
UNEVEN = 2.0 ** np.linspace(-4, 4, CHANNELS)  # 256 between the largest channel and the smallest


def normal(seed: int, *shape: int, size: float = 0.3) -> Any:
    return np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)


IMAGES = normal(1, 32, 3, 12, 12, size=1)
ROWS = normal(2, 64, 16, size=1)
TOKENS = normal(3, 32, 6, 16, size=1)


def wide(dims: int, back: int = 0) -> Any:
    """The uneven factors along the first of `dims` axes, `back` ones before them."""
    return UNEVEN.reshape([1] * back + [-1] + [1] * (dims - 1)).astype(np.float32)


def mobile() -> onnx.ModelProto:
    """Convolution, depthwise, convolution with a way around, mean over space, a head."""
    return make(
        [
            op("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            op("Relu", ["c1"], ["r1"]),
            op("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=CHANNELS),
            op("Relu", ["c2"], ["r2"]),
            op("Conv", ["r2", "w3", "b3"], ["c3"]),
            op("Relu", ["c3"], ["r3"]),
            op("MaxPool", ["r3"], ["p3"], kernel_shape=[2, 2], strides=[2, 2]),
            op("Conv", ["p3", "w4"], ["c4"], pads=[1, 1, 1, 1]),
            op("Add", ["p3", "c4"], ["sum"]),
            op("GlobalAveragePool", ["sum"], ["mean"]),
            op("Flatten", ["mean"], ["flat"]),
            op("Gemm", ["flat", "w5", "b5"], ["y"], transB=1),
        ],
        {"x": ["N", 3, 12, 12]},
        {"y": ["N", 5]},
        {
            "w1": normal(4, CHANNELS, 3, 3, 3) * wide(4),
            "b1": normal(5, CHANNELS) * wide(1),
            "w2": normal(6, CHANNELS, 1, 3, 3) * wide(4)[::-1] / wide(4),
            "b2": normal(7, CHANNELS) * wide(1)[::-1],
            "w3": normal(8, CHANNELS, CHANNELS, 1, 1) / wide(3, 1)[:, ::-1] * wide(4),
            "b3": normal(9, CHANNELS) * wide(1),
            "w4": normal(10, CHANNELS, CHANNELS, 3, 3) / wide(3, 1) * wide(4),
            "w5": normal(11, 5, CHANNELS) / wide(1, 1),
            "b5": normal(12, 5),
        },
    )


def transformer(decomposed: bool) -> onnx.ModelProto:
    """A normalization whose gamma has large channels, read by q, k, v and a feed-forward net."""
    gamma = np.ones(16, np.float32)
    gamma[[2, 7, 11]] = 60
    weights = {name: normal(n, 16, 16) for n, name in enumerate(["q", "k", "v"])}
    for name in weights:
        weights[name] /= gamma[:, None]
    weights |= {"gamma": gamma, "beta": normal(20, 16) * gamma, "f1": normal(21, 16, 32)}
    weights |= {"f2": normal(22, 32, 4), "root": np.float32(4)}
    norm = [op("LayerNormalization", ["x", "gamma", "beta"], ["n"], axis=-1)]
    if decomposed:
        norm = [
            op("LayerNormalization", ["x", "one"], ["z"], axis=-1),
            op("Mul", ["z", "gamma"], ["scaled"]),
            op("Add", ["scaled", "beta"], ["n"]),
        ]
        weights["one"] = np.ones(16, np.float32)
    nodes = [
        *norm,
        *(op("MatMul", ["n", name], [f"{name}_out"]) for name in ("q", "k", "v")),
        op("Transpose", ["k_out"], ["kt"], perm=[0, 2, 1]),
        op("MatMul", ["q_out", "kt"], ["raw"]),
        op("Div", ["raw", "root"], ["scores"]),
        op("Softmax", ["scores"], ["shares"], axis=-1),
        op("MatMul", ["shares", "v_out"], ["mixed"]),
        op("Add", ["mixed", "x"], ["added"]),
        op("MatMul", ["added", "f1"], ["hidden"]),
        op("Relu", ["hidden"], ["positive"]),
        op("MatMul", ["positive", "f2"], ["y"]),
    ]
    return make(nodes, {"x": ["N", 6, 16]}, {"y": ["N", 6, 4]}, weights)


def products() -> onnx.ModelProto:
    """Gemm, leaky Gemm, with one stored tensor that two layers share."""
    shared = normal(30, 16, 16)
    return make(
        [
            op("Gemm", ["x", "w", "b"], ["h1"]),
            op("LeakyRelu", ["h1"], ["r1"], alpha=0.25),
            op("Gemm", ["r1", "w", "b"], ["h2"]),
            op("Relu", ["h2"], ["r2"]),
            op("MatMul", ["r2", "o"], ["h3"]),
            op("Add", ["h3", "ob"], ["y"]),
        ],
        {"x": ["N", 16]},
        {"y": ["N", 3]},
        {
            "w": shared * wide(1, 1),
            "b": normal(31, 16) * wide(1),
            "o": normal(32, 16, 3) / wide(2),
            "ob": normal(33, 3),
        },
    )


def balanced(bench: Bench, model: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    """The model as the quantizer gets it, what is made of it, and the calibration rows."""
    rows = len(next(iter(feeds.values())))
    folder = bench.model(model)
    inputs = _runtimes.load(folder, "onnxruntime").inputs
    samples = _data.samples(bench.data("calibration", **feeds) / "calibration.npz", inputs, rows)
    expected = _same.answers(folder, samples)
    ready, left_out = _prepare.prepare(model, expected, samples)
    assert not left_out
    return ready, _balance.balanced(ready, expected, samples), samples


CASES = {
    "mobile": (mobile, IMAGES, 3),
    "transformer": (lambda: transformer(False), TOKENS, 1),
    "transformer, normalization in parts": (lambda: transformer(True), TOKENS, 1),
    "products": (products, ROWS, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_stay_the_same_to_the_last_bit(bench: Bench, case: str) -> None:
    build, data, groups = CASES[case]
    model, (even, uneven), samples = balanced(bench, build(), {"x": data})
    assert even is not None
    onnx.checker.check_model(even, full_check=True)
    assert len(uneven) == groups
    assert all(factor >= _balance.UNEVEN for factor in uneven.values())
    before = _same.answers_of(model, samples)
    after = _same.answers_of(even, samples)
    for old, new in zip(before, after, strict=True):
        for name in old:
            np.testing.assert_array_equal(old[name], new[name])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["u8s8", "s8s8", "openvino"])
def test_int8_is_near_again(
    bench: Bench, case: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, data, _ = CASES[case]
    folder, rows = bench.model(build()), bench.data("calibration", x=data)
    expected = _runtimes.load(folder, "onnxruntime").run({"x": data})

    def error() -> tuple[float, Any]:
        if form == "openvino":
            given = {"precision": "int8", "samples": len(data)}
            out, facts = bench.run("compile-openvino", params=given, model=folder, calibration=rows)
            answers = _runtimes.load(out, "openvino").run({"x": data})
        else:
            given = {"scheme": form, "samples": len(data)}
            out, facts = bench.run("quantize", params=given, model=folder, calibration=rows)
            onnx.checker.check_model(out / "model.onnx")
            answers = _runtimes.load(out, "onnxruntime").run({"x": data})
        return _same.relative([expected["y"]], [answers["y"]]), facts

    with_it, facts = error()
    assert facts.balanced
    monkeypatch.setattr(_balance, "UNEVEN", float("inf"))
    without, plain = error()
    assert not plain.balanced
    assert with_it < 0.5 * without, (with_it, without)


def closed(bench: Bench, nodes: list[onnx.NodeProto], outputs: dict[str, Any]) -> None:
    """Nothing of this model can be moved."""
    weights = {
        "w": normal(40, 16, 16) * wide(1, 1),
        "o": normal(41, 16, 3) / wide(2),
        "row": normal(42, 16),
        "scalar": np.float32(0.5),
    }
    model = make(nodes, {"x": ["N", 16]}, outputs, weights)
    assert balanced(bench, model, {"x": ROWS})[1] == (None, {})


@pytest.mark.parametrize(
    "between",
    [
        [op("Sigmoid", ["h"], ["r"])],
        [op("Add", ["h", "scalar"], ["r"])],
        [op("Softmax", ["h"], ["r"], axis=-1)],
        [op("Clip", ["h", "", "scalar"], ["r"])],
        [op("Transpose", ["h"], ["t"], perm=[1, 0]), op("Transpose", ["t"], ["r"], perm=[1, 0])],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_what_does_not_carry_factors_stays(bench: Bench, between: list[onnx.NodeProto]) -> None:
    first, last = op("MatMul", ["x", "w"], ["h"]), op("MatMul", ["r", "o"], ["y"])
    closed(bench, [first, *between, last], {"y": ["N", 3]})


def test_what_the_model_answers_stays(bench: Bench) -> None:
    nodes = [
        op("MatMul", ["x", "w"], ["h"]),
        op("Relu", ["h"], ["r"]),
        op("MatMul", ["r", "o"], ["y"]),
    ]
    closed(bench, nodes, {"y": ["N", 3], "r": ["N", 16]})


def test_what_the_body_of_an_if_reads_stays(bench: Bench) -> None:
    def body(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph([op("Neg", ["r"], [f"{name}_out"])], name, [], [out])

    nodes = [
        op("MatMul", ["x", "w"], ["h"]),
        op("Relu", ["h"], ["r"]),
        op("MatMul", ["r", "o"], ["y"]),
        op("ReduceSum", ["x"], ["total"], keepdims=0),
        op("Cast", ["total"], ["yes"], to=TensorProto.BOOL),
        op("If", ["yes"], ["z"], then_branch=body("a"), else_branch=body("b")),
    ]
    closed(bench, nodes, {"y": ["N", 3], "z": ["N", 16]})


def test_even_channels_stay_and_dead_ones_do_no_harm(bench: Bench) -> None:
    even = np.ones(16, np.float32)
    dead = even.copy()
    dead[:4] = 0
    for channels in (even, dead):
        model = make(
            [
                op("MatMul", ["x", "w"], ["h"]),
                op("Relu", ["h"], ["r"]),
                op("MatMul", ["r", "o"], ["y"]),
            ],
            {"x": ["N", 16]},
            {"y": ["N", 3]},
            {"w": normal(50, 16, 16) * channels, "o": normal(51, 16, 3)},
        )
        assert balanced(bench, model, {"x": ROWS})[1] == (None, {})
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(normal(50, 16, 16) * dead * wide(1, 1), "w")
    )
    _, (moved, uneven), _ = balanced(bench, model, {"x": ROWS})
    assert moved is not None
    assert uneven
    weights = {t.name: numpy_helper.to_array(t) for t in moved.graph.initializer}
    assert all(np.isfinite(values).all() for values in weights.values())
