"""Models of kinds that int8 once answered wrong, or refused in words that name nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as op
from workbench import Bench, make

from repo_builder import tflite
from repo_builder.base.errors import ModelError, StepError
from repo_builder.steps import _runtimes

SCHEMES = ("u8s8", "s8s8")
Feeds = dict[str, Any]


def normal(seed: int, *shape: int, size: float = 0.3) -> Any:
    return np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)


X = normal(7, 64, 16, size=1)
IMAGES = normal(8, 32, 3, 8, 8, size=1)


def quantize(bench: Bench, model: onnx.ModelProto, feeds: Feeds, **params: Any) -> Any:
    rows = len(next(iter(feeds.values())))
    given = {"scheme": "u8s8", "samples": rows, **params}
    data = bench.data("calibration", **feeds)
    return bench.run("quantize", params=given, model=bench.model(model), calibration=data)


def cosine(bench: Bench, model: onnx.ModelProto, out: Any, feeds: Feeds) -> float:
    expected = _runtimes.load(bench.model(model), "onnxruntime").run(feeds)
    answer = _runtimes.load(out, "onnxruntime").run(feeds)
    found = []
    for name in expected:
        a, b = expected[name].astype(float).ravel(), answer[name].astype(float).ravel()
        assert a.shape == b.shape
        found.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return min(found)


def check(bench: Bench, model: onnx.ModelProto, feeds: Feeds, least: float = 0.995) -> Any:
    """Quantize for both schemes, with 7 and 8 bits; answers stay close. Returns the last facts."""
    onnx.checker.check_model(model, full_check=True)
    for scheme in SCHEMES:
        for bits in (7, 8):
            out, facts = quantize(bench, model, feeds, scheme=scheme, weight_bits=bits)
            onnx.checker.check_model(out / "model.onnx")
            assert cosine(bench, model, out, feeds) > least, (scheme, bits)
            assert not facts.left_out
    return facts


# --- masks


def attention(mask: Callable[[], Any], inputs: dict[str, Any]) -> onnx.ModelProto:
    """Attention over 10 tokens; `mask` gives the nodes that make `sm` of `s`, and their weights."""
    nodes, weights = mask()
    weights |= {n: normal(i, 16, 16) for i, n in enumerate(("Wq", "Wk", "Wv", "Wo"))}
    graph = [
        op("MatMul", ["x", "Wq"], ["q"], "q"),
        op("MatMul", ["x", "Wk"], ["k"], "k"),
        op("MatMul", ["x", "Wv"], ["v"], "v"),
        op("Transpose", ["k"], ["kt"], "t", perm=[0, 2, 1]),
        op("MatMul", ["q", "kt"], ["s"], "qk"),
        *nodes,
        op("Softmax", ["sm"], ["p"], "softmax", axis=-1),
        op("MatMul", ["p", "v"], ["o"], "pv"),
        op("MatMul", ["o", "Wo"], ["y"], "out"),
    ]
    model = make(graph, {"x": ["n", 10, 16], **inputs}, {"y": ["n", 10, 16]}, weights)
    for value in model.graph.input:
        if value.name == "keep":
            value.type.tensor_type.elem_type = TensorProto.BOOL
    return model


TOKENS = normal(9, 64, 10, 16, size=1)
LENGTHS = np.random.default_rng(3).integers(4, 11, 64)
KEEP = np.arange(10)[None] < LENGTHS[:, None]


def by_multiplying(huge: float) -> Any:
    nodes = [
        op("Unsqueeze", ["mask", "one_axis"], ["mu"], "u"),
        op("Sub", ["one", "mu"], ["inv"], "i"),
        op("Mul", ["inv", "huge"], ["bias"], "b"),
        op("Add", ["s", "bias"], ["sm"], "a"),
    ]
    return nodes, {"one_axis": np.array([1]), "one": np.float32(1), "huge": np.float32(huge)}


def by_subtracting(huge: float) -> Any:
    nodes, weights = by_multiplying(-huge)
    nodes[-1] = op("Sub", ["s", "bias"], ["sm"], "a")
    return nodes, weights


def by_reshaping(huge: float) -> Any:
    """The sum of scores and mask goes through operators that int8 would keep in its scale."""
    nodes, weights = by_multiplying(huge)
    nodes[-1:] = [
        op("Add", ["s", "bias"], ["sa"], "a"),
        op("Reshape", ["sa", "flat"], ["sf"], "r"),
        op("Reshape", ["sf", "back"], ["sm"], "r2"),
    ]
    return nodes, {**weights, "flat": np.array([-1, 100]), "back": np.array([-1, 10, 10])}


def by_choosing(huge: float) -> Any:
    nodes = [
        op("Unsqueeze", ["keep", "one_axis"], ["ku"], "u"),
        op("Where", ["ku", "s", "huge"], ["sm"], "w"),
    ]
    return nodes, {"one_axis": np.array([1]), "huge": np.float32(huge)}


def by_choosing_a_bias(huge: float) -> Any:
    nodes = [
        op("Unsqueeze", ["keep", "one_axis"], ["ku"], "u"),
        op("Where", ["ku", "zero", "huge"], ["bias"], "w"),
        op("Add", ["s", "bias"], ["sm"], "a"),
    ]
    return nodes, {"one_axis": np.array([1]), "zero": np.float32(0), "huge": np.float32(huge)}


def by_a_constant(huge: float) -> Any:
    causal = np.triu(np.full((1, 10, 10), huge, np.float32), 1)
    return [op("Add", ["s", "causal"], ["sm"], "a")], {"causal": causal}


MASKS = (by_multiplying, by_subtracting, by_reshaping, by_choosing, by_choosing_a_bias)
HUGE = (-200.0, -1e3, -1e4, -65504.0, -1e9, float(np.finfo(np.float32).min))


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("mask", [*MASKS, by_a_constant])
def test_a_mask_does_not_swallow_the_scores(bench: Bench, mask: Any, huge: float) -> None:
    feeds: Feeds = {"x": TOKENS}
    inputs: dict[str, Any] = {}
    if mask in (by_choosing, by_choosing_a_bias):
        feeds["keep"], inputs["keep"] = KEEP, ["n", 10]
    elif mask is not by_a_constant:
        feeds["mask"], inputs["mask"] = KEEP.astype(np.float32), ["n", 10]
    model = attention(lambda: mask(huge), inputs)
    for scheme in SCHEMES:
        out, _ = quantize(bench, model, feeds, scheme=scheme)
        assert cosine(bench, model, out, feeds) > 0.98, scheme


@pytest.mark.parametrize("mask", [by_choosing, by_choosing_a_bias])
def test_an_infinite_mask_stays_in_floating_point(bench: Bench, mask: Any) -> None:
    feeds = {"x": TOKENS, "keep": KEEP}
    model = attention(lambda: mask(-np.inf), {"keep": ["n", 10]})
    out, facts = quantize(bench, model, feeds)
    assert cosine(bench, model, out, feeds) > 0.99
    if mask is by_choosing_a_bias:
        assert "infinite" in facts.left["a"]


def test_a_mask_that_makes_nan_is_named(bench: Bench) -> None:
    feeds = {"x": TOKENS, "mask": KEEP.astype(np.float32)}
    model = attention(lambda: by_multiplying(-np.inf), {"mask": ["n", 10]})
    with pytest.raises(StepError, match="becomes NaN on calibration row 0 in Mul node 'b'"):
        quantize(bench, model, feeds)


def test_a_residual_with_one_large_channel_stays_in_int8(bench: Bench) -> None:
    """Wide is not torn: values lie in between."""
    nodes = [
        op("MatMul", ["x", "w"], ["a"], "first"),
        op("Add", ["a", "x"], ["s"], "add"),
        op("MatMul", ["s", "w"], ["y"], "last"),
    ]
    weights = normal(1, 16, 16) * np.logspace(-1, 0.7, 16, dtype=np.float32)[None]
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 16]}, {"w": weights})
    facts = check(bench, model, {"x": X})
    assert facts.quantized == {"Add": 1, "Gemm": 1, "MatMul": 1}


# --- Gemm


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("alpha", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_keeps_its_factors(bench: Bench, alpha: float, beta: float, turned: int) -> None:
    nodes = [
        op("Gemm", ["x", "W", "c"], ["a"], "one", transB=turned, alpha=alpha, beta=beta),
        op("Relu", ["a"], ["r"]),
        op("Gemm", ["r", "W"], ["y"], "two", transB=1, alpha=alpha),
    ]
    weights = {"W": normal(1, 16, 16), "c": normal(2, 16, size=1)}
    check(bench, make(nodes, {"x": ["n", 16]}, {"y": ["n", 16]}, weights), {"x": X})


BIASES = {
    "scalar": np.float32(0.7),
    "[1]": normal(2, 1, size=1),
    "[1, 1]": normal(2, 1, 1, size=1),
    "[N]": normal(2, 12, size=1),
    "[1, N]": normal(2, 1, 12, size=1),
    "[M, 1]": normal(2, 64, 1, size=1),
    "[M, N]": normal(2, 64, 12, size=1),
}


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_gemm_takes_every_bias_that_onnx_allows(bench: Bench, bias: str, beta: float) -> None:
    nodes = [
        op("Gemm", ["x", "W", "c"], ["a"], "one", beta=beta),
        op("Relu", ["a"], ["r"]),
        op("Gemm", ["r", "W2"], ["y"], "two"),
    ]
    weights = {"W": normal(1, 16, 12), "c": BIASES[bias], "W2": normal(3, 12, 4)}
    rows = 64 if "M" in bias else "n"
    model = make(nodes, {"x": [rows, 16]}, {"y": [rows, 4]}, weights)
    feeds = {"x": np.tile(X, (2, 1)) if "M" in bias else X}
    if "M" in bias:  # one run takes 64 rows
        out, _ = quantize(bench, model, {"x": feeds["x"].reshape(2, 64, 16)}, samples=2)
        assert cosine(bench, model, out, {"x": X}) > 0.995
    else:
        check(bench, model, feeds)


def test_gemm_with_operands_that_are_computed(bench: Bench) -> None:
    nodes = [
        op("Gemm", ["x", "W"], ["a"], "one"),
        op("Gemm", ["a", "x", "c"], ["b"], "both", transA=1, alpha=0.5, beta=2.0),
        op("Gemm", ["b", "a"], ["y"], "turned", transB=1),
    ]
    shapes = {"x": [16, 16], "c": [16, 16]}
    model = make(nodes, shapes, {"y": [16, 16]}, {"W": normal(1, 16, 16)})
    feeds = {"x": X.reshape(4, 16, 16), "c": normal(4, 4, 16, 16)}
    out, facts = quantize(bench, model, feeds)
    assert cosine(bench, model, out, {"x": X[:16], "c": feeds["c"][0]}) > 0.995
    assert facts.quantized["MatMul"] == 2


def test_biases_that_are_computed_or_given(bench: Bench) -> None:
    nodes = [
        op("Conv", ["x", "W", "b"], ["a"], "one", pads=[1] * 4),
        op("Relu", ["a"], ["r"]),
        op("ConvTranspose", ["r", "V", "b"], ["t"], "up", strides=[2, 2]),
        op("GlobalAveragePool", ["t"], ["p"]),
        op("Flatten", ["p"], ["f"]),
        op("Gemm", ["f", "U", "b"], ["y"], "last"),
    ]
    weights = {"W": normal(1, 4, 3, 3, 3), "V": normal(2, 4, 4, 2, 2), "U": normal(3, 4, 4)}
    model = make(nodes, {"x": ["n", 3, 8, 8], "b": [4]}, {"y": ["n", 4]}, weights)
    feeds = {"x": IMAGES, "b": normal(5, 32, 4)}
    out, _ = quantize(bench, model, feeds)
    assert cosine(bench, model, out, {"x": IMAGES, "b": feeds["b"][0]}) > 0.99


# --- weights with several readers, axes, sources


SPREAD = (normal(1, 16, 16) * np.logspace(-1, 0.5, 16)[:, None]).astype(np.float32)


@pytest.mark.parametrize(
    "second",
    [
        op("MatMul", ["r", "W"], ["y"], "second"),
        op("Gemm", ["r", "W"], ["y"], "second"),
        op("MatMul", ["W", "r"], ["y"], "second"),
        op("Add", ["r", "W"], ["y"], "second"),
    ],
    ids=lambda node: f"{node.op_type} {node.input[0]}",
)
def test_a_weight_that_is_tied_along_two_axes(bench: Bench, second: onnx.NodeProto) -> None:
    nodes = [
        op("Gemm", ["x", "W"], ["a"], "first", transB=1),
        op("Relu", ["a"], ["r"]),
        second,
        op("MatMul", ["y", "V"], ["z"], "third"),
    ]
    model = make(nodes, {"x": [16, 16]}, {"z": [16, 16]}, {"W": SPREAD, "V": normal(4, 16, 16)})
    out, _ = quantize(bench, model, {"x": X.reshape(4, 16, 16)})
    assert cosine(bench, model, out, {"x": X[:16]}) > 0.995


@pytest.mark.parametrize("transposed", [False, True])
def test_an_embedding_that_is_the_output_layer_too(bench: Bench, transposed: bool) -> None:
    """Gather and the last product share a table, as language models tie them."""
    last = [op("Gemm", ["h", "E"], ["y"], "head", transB=1)]
    if transposed:
        last = [
            op("Transpose", ["E"], ["Et"], "turn", perm=[1, 0]),
            op("MatMul", ["h", "Et"], ["y"], "head"),
        ]
    nodes = [
        op("Gather", ["E", "ids"], ["e"], "embed"),
        op("MatMul", ["e", "W"], ["g"], "hidden"),
        op("Relu", ["g"], ["h"]),
        *last,
    ]
    table = (normal(1, 30, 16) * np.logspace(-1, 0.5, 30)[:, None]).astype(np.float32)
    model = make(nodes, {"ids": ["n"]}, {"y": ["n", 30]}, {"E": table, "W": normal(2, 16, 16)})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    check(bench, model, {"ids": np.arange(60) % 30})


def test_a_weight_that_is_an_output_too_and_a_bias_of_two(bench: Bench) -> None:
    nodes = [
        op("Gemm", ["x", "W", "b"], ["a"], "one"),
        op("Relu", ["a"], ["r"]),
        op("Gemm", ["r", "W", "b"], ["y"], "two"),
    ]
    weights = {"W": normal(1, 16, 16), "b": normal(2, 16)}
    model = make(nodes, {"x": ["n", 16]}, {"y": ["n", 16], "W": [16, 16]}, weights)
    check(bench, model, {"x": X})


@pytest.mark.parametrize("source", ["Constant", "Identity", "Transpose", "Cast", "Reshape"])
def test_weights_that_nodes_produce(bench: Bench, source: str) -> None:
    values = normal(1, 16, 16)
    stored: dict[str, Any] = {"raw": values, "V": normal(2, 16, 4), "shape": np.array([16, 16])}
    node = {
        "Constant": op("Constant", [], ["W"], value=numpy_helper.from_array(values)),
        "Identity": op("Identity", ["raw"], ["W"]),
        "Transpose": op("Transpose", ["raw"], ["W"], perm=[1, 0]),
        "Cast": op("Cast", ["half"], ["W"], to=TensorProto.FLOAT),
        "Reshape": op("Reshape", ["raw", "shape"], ["W"]),
    }[source]
    if source == "Cast":
        stored["half"] = values.astype(np.float16)
    nodes = [node, op("MatMul", ["x", "W"], ["a"], "one"), op("MatMul", ["a", "V"], ["y"], "two")]
    used = {name for n in nodes for name in n.input}
    stored = {name: array for name, array in stored.items() if name in used}
    facts = check(bench, make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, stored), {"x": X})
    assert facts.quantized["MatMul"] == 2


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_transposed_convolutions_in_groups(bench: Bench, group: int, bias: bool) -> None:
    nodes = [
        op("Conv", ["x", "W1"], ["a"], "down", pads=[1] * 4),
        op("Relu", ["a"], ["r"]),
        op("ConvTranspose", ["r", "W2", *["b2"] * bias], ["c"], "up", strides=[2, 2], group=group),
        op("Relu", ["c"], ["r2"]),
        op("Conv", ["r2", "W3"], ["y"], "last"),
    ]
    stored = {"W1": normal(1, 8, 3, 3, 3), "W2": normal(2, 8, 8 // group, 2, 2)}
    stored |= {"b2": normal(3, 8)} if bias else {}
    stored["W3"] = normal(4, 2, 8, 1, 1)
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 2, 16, 16]}, stored)
    check(bench, model, {"x": IMAGES})


@pytest.mark.parametrize(
    ("shape", "x", "y"),
    [
        ((4, 16, 8), ["n", 1, 1, 16], ["n", 4, 1, 8]),
        ((1, 16, 8), ["n", 1, 16], ["n", 1, 8]),
        ((2, 4, 16, 8), [1, 1, "n", 16], [2, 4, "n", 8]),
        ((16,), ["n", 16], ["n"]),
    ],
)
def test_products_with_weights_of_other_ranks(bench: Bench, shape: Any, x: Any, y: Any) -> None:
    nodes = [op("MatMul", ["x", "W"], ["a"], "one"), op("Relu", ["a"], ["y"])]
    model = make(nodes, {"x": x}, {"y": y}, {"W": normal(1, *shape)})
    sizes = [size if isinstance(size, int) else 64 for size in x]
    feeds = {"x": X.reshape(sizes)}
    rows = X.reshape(1, *sizes) if x[0] == 1 else feeds["x"]
    for scheme in SCHEMES:
        out, _ = quantize(bench, model, {"x": rows}, scheme=scheme)
        assert cosine(bench, model, out, feeds) > 0.99


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-6])
def test_channels_of_odd_sizes(bench: Bench, size: float) -> None:
    nodes = [
        op("Conv", ["x", "W", "b"], ["a"], "one", pads=[1] * 4),
        op("Relu", ["a"], ["r"]),
        op("Conv", ["r", "V", "c"], ["y"], "two"),
    ]
    first, bias = normal(1, 6, 3, 3, 3), normal(2, 6)
    first[2] *= size
    bias[3] *= size
    second = normal(3, 4, 6, 1, 1)
    weights = {"W": first, "b": bias, "V": second, "c": normal(4, 4)}
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 8, 8]}, weights)
    check(bench, model, {"x": IMAGES}, 0.99)


def test_constant_outputs(bench: Bench) -> None:
    nodes = [
        op("Conv", ["x", "W"], ["a"], "one"),
        op("Relu", ["a"], ["r"]),
        op("Conv", ["r", "V", "b"], ["y"], "two"),
    ]
    weights = {
        "W": np.zeros((4, 3, 1, 1), np.float32),
        "V": normal(1, 2, 4, 1, 1),
        "b": normal(2, 2),
    }
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 2, 8, 8]}, weights)
    check(bench, model, {"x": IMAGES})


# --- names, bodies, activations


def test_missing_and_derived_names(bench: Bench) -> None:
    nodes = [
        op("Gemm", ["x", "W", "b"], ["h"]),
        op("Relu", ["h"], ["h_scale"], "Gemm_0"),
        op("Gemm", ["h_scale", "V"], ["W_scale"]),
        op("Relu", ["W_scale"], ["h_zero_point"]),
        op("Gemm", ["h_zero_point", "V"], ["y"]),
    ]
    weights = {"W": normal(1, 16, 16), "b": normal(2, 16), "V": normal(3, 16, 16)}
    facts = check(bench, make(nodes, {"x": ["n", 16]}, {"y": ["n", 16]}, weights), {"x": X})
    assert facts.quantized["Gemm"] == 3


def test_bodies_that_read_tensors_from_outside(bench: Bench) -> None:
    """The quantizer takes Relu out of the graph; a body of If still reads its input."""
    value = helper.make_tensor_value_info
    bodies = {
        name: helper.make_graph(
            [op(kind, ["h", "W"], [f"{name}_out"])],
            name,
            [],
            [value(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name, kind in (("then_branch", "MatMul"), ("else_branch", "Add"))
    }
    nodes = [
        op("MatMul", ["x", "W"], ["h"], "one"),
        op("Relu", ["h"], ["r"], "relu"),
        op("MatMul", ["r", "W"], ["m"], "two"),
        op("ReduceSum", ["x"], ["total"], keepdims=0),
        op("Greater", ["total", "zero"], ["positive"]),
        op("If", ["positive"], ["branch"], **bodies),
        op("Add", ["m", "branch"], ["y"], "join"),
    ]
    weights = {"W": normal(1, 16, 16), "zero": np.float32(0)}
    model = make(nodes, {"x": [16, 16]}, {"y": [16, 16]}, weights)
    out, _ = quantize(bench, model, {"x": X.reshape(4, 16, 16)})
    assert cosine(bench, model, out, {"x": X[:16]}) > 0.995


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (0.5, 6.0), (-1.0, 1.0), (-3.0, -0.5), (None, 1.0), (0.2, None)]
)
def test_clips_keep_their_limits(bench: Bench, low: float | None, high: float | None) -> None:
    limits = {"low": low, "high": high}
    nodes = [
        op("MatMul", ["x", "W"], ["a"], "one"),
        op("Clip", ["a", *("" if v is None else n for n, v in limits.items())], ["c"], "clip"),
        op("MatMul", ["c", "V"], ["y"], "two"),
    ]
    weights = {n: np.float32(v) for n, v in limits.items() if v is not None}
    weights |= {"W": normal(1, 16, 16, size=1), "V": normal(2, 16, 4)}
    check(bench, make(nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, weights), {"x": X})


def test_lstm_and_gru_beside_a_product(bench: Bench) -> None:
    nodes = [
        op("MatMul", ["x", "V"], ["h"], "before"),
        op("LSTM", ["h", "W", "R"], ["s"], "lstm", hidden_size=8),
        op("Squeeze", ["s", "one_axis"], ["q"]),
        op("GRU", ["q", "Wg", "Rg"], ["u"], "gru", hidden_size=8),
        op("Squeeze", ["u", "one_axis"], ["z"]),
        op("MatMul", ["z", "U"], ["y"], "after"),
    ]
    weights = {
        "V": normal(1, 16, 16),
        "W": normal(2, 1, 32, 16),
        "R": normal(3, 1, 32, 8),
        "Wg": normal(4, 1, 24, 8),
        "Rg": normal(5, 1, 24, 8),
        "U": normal(6, 8, 4),
        "one_axis": np.array([1]),
    }
    model = make(nodes, {"x": [5, 1, 16]}, {"y": [5, 1, 4]}, weights)
    out, facts = quantize(bench, model, {"x": X[:60].reshape(12, 5, 1, 16)})
    assert cosine(bench, model, out, {"x": X[:5].reshape(5, 1, 16)}) > 0.99
    assert facts.quantized["MatMul"] == 2
    assert facts.floating.keys() >= {"GRU", "LSTM"}


@pytest.mark.parametrize("ratio", [1.0, 1000.0])
def test_a_concat_of_uneven_ranges_stays_in_floating_point(bench: Bench, ratio: float) -> None:
    nodes = [
        op("Conv", ["x", "W"], ["a"], "boxes"),
        op("Conv", ["x", "V"], ["b"], "scores"),
        op("Concat", ["a", "b"], ["c"], "join", axis=1),
        op("Conv", ["c", "U"], ["y"], "last"),
    ]
    last = normal(3, 4, 8, 1, 1)
    last[:, :4] /= ratio
    weights = {
        "W": normal(1, 4, 3, 1, 1) * np.float32(ratio),
        "V": normal(2, 4, 3, 1, 1),
        "U": last,
    }
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 8, 8]}, weights)
    _, facts = quantize(bench, model, {"x": IMAGES})
    assert ("join" in facts.left) == (ratio > 1)


def test_a_concat_of_uneven_ranges_is_refused_where_nothing_may_float(bench: Bench) -> None:
    nodes = [
        op("Conv", ["x", "W"], ["a"], "boxes"),
        op("Conv", ["x", "V"], ["b"], "scores"),
        op("Sigmoid", ["b"], ["s"]),
        op("Concat", ["a", "s"], ["y"], "join", axis=1),
    ]
    weights = {"W": normal(1, 4, 3, 1, 1, size=100), "V": normal(2, 4, 3, 1, 1)}
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 8, 8, 8]}, weights)
    with pytest.raises(
        ModelError, match=r"(?s)Concat node 'join'.*levels.*end the model before it"
    ):
        quantize(bench, model, {"x": IMAGES}, whole=True)


@pytest.mark.parametrize("kind", ["Transpose", "Reshape"])
def test_what_moves_the_input_first_goes_to_microcontrollers(bench: Bench, kind: str) -> None:
    """Keras and TensorFlow export images as [N, H, W, C], with a Transpose in front."""
    first = op("Transpose", ["x"], ["t"], "front", perm=[0, 3, 1, 2])
    weights = {"W": normal(1, 4, 3, 3, 3), "V": normal(2, 4, 2)}
    if kind == "Reshape":
        first, weights["shape"] = (
            op("Reshape", ["x", "shape"], ["t"], "front"),
            np.array([-1, 3, 8, 8]),
        )
    nodes = [
        first,
        op("Conv", ["t", "W"], ["c"], "conv", pads=[1] * 4),
        op("Relu", ["c"], ["r"]),
        op("GlobalAveragePool", ["r"], ["g"]),
        op("Flatten", ["g"], ["f"]),
        op("Gemm", ["f", "V"], ["y"], "dense"),
    ]
    model = make(nodes, {"x": ["n", 8, 8, 3]}, {"y": ["n", 2]}, weights)
    feeds = {"x": IMAGES.transpose(0, 2, 3, 1)}
    out, facts = quantize(bench, model, feeds, whole=True)
    assert cosine(bench, model, out, feeds) > 0.99
    assert not facts.floating
    written = tflite.write(onnx.load(out / "model.onnx"))
    assert "CONV_2D" in written.ops


# --- old opsets


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [9, 10])
def test_resizing_of_old_opsets_keeps_its_rule(bench: Bench, opset: int, mode: str) -> None:
    kind = "Upsample" if opset == 9 else "Resize"
    nodes = [
        op("Conv", ["x", "W"], ["a"], "one", pads=[1] * 4),
        op(kind, ["a", "scales"], ["u"], "up", mode=mode),
        op("Conv", ["u", "V"], ["y"], "two", pads=[1] * 4),
    ]
    scales = [1, 1, 2, 2] if mode == "linear" else [1, 1, 1.5, 1.5]
    weights = {"W": normal(1, 8, 3, 3, 3), "V": normal(2, 4, 8, 3, 3)}
    weights["scales"] = np.array(scales, np.float32)
    size = int(8 * scales[2])
    shapes: Any = {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, size, size]}
    model = make(nodes, *shapes, weights, opset=opset, ir=5)
    check(bench, model, {"x": IMAGES}, 0.999)


def test_softmax_of_old_opsets_keeps_its_axes(bench: Bench) -> None:
    nodes = [
        op("Conv", ["x", "W"], ["a"], "one"),
        op("Softmax", ["a"], ["s"], axis=1),
        op("Conv", ["s", "V"], ["y"], "two"),
    ]
    weights = {"W": normal(1, 4, 3, 1, 1), "V": normal(2, 4, 4, 1, 1)}
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 8, 8]}, weights, opset=11, ir=6)
    check(bench, model, {"x": IMAGES}, 0.99)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_of_a_model_in_fp16_are_quantized(bench: Bench, scheme: str) -> None:
    nodes = [
        op("Conv", ["x", "w", "b"], ["c"], "first", pads=[1] * 4),
        op("Relu", ["c"], ["r"]),
        op("Conv", ["r", "v"], ["y"], "second"),
    ]
    stored = {"w": normal(1, 8, 3, 3, 3), "b": normal(2, 8), "v": normal(3, 4, 8, 1, 1)}
    halves = {name: array.astype(np.float16) for name, array in stored.items()}
    model = make(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 8, 8]}, halves)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    feeds = {"x": IMAGES.astype(np.float16)}
    out, facts = quantize(bench, model, feeds, scheme=scheme)
    assert facts.quantized["Conv"] == 2
    assert cosine(bench, model, out, feeds) > 0.995
