"""Which layer int8 harms, on nets whose worst layer is known, against errors worked out by hand."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node as op
from workbench import Bench, cnn, make, relu

from repo_builder.base.errors import DataError
from repo_builder.steps import (
    _calibrate,
    _keep,
    _layers,
    _narrow,
    _openvino_narrow,
    _runtimes,
    _switched,
)

RANDOM = np.random.default_rng(5)
FAR = np.array([300, *[1] * 15], np.float32)
"""One input is 300 times larger than the others, and its weights as much smaller."""
ROWS = (RANDOM.normal(size=(96, 16)) * FAR).astype(np.float32)


def weights(*shape: int) -> Any:
    return (RANDOM.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


FIRST, SECOND, THIRD = weights(16, 32) / FAR[:, None], weights(32, 32), weights(32, 4)


def chain() -> onnx.ModelProto:
    """Three layers, of which the first reads what int8 cannot tell apart."""
    nodes = [
        op("MatMul", ["x", "w1"], ["a"], "first"),
        op("Relu", ["a"], ["b"], "relu"),
        op("MatMul", ["b", "w2"], ["c"], "second"),
        op("Relu", ["c"], ["d"], "relu2"),
        op("MatMul", ["d", "w3"], ["y"], "third"),
    ]
    stored = {"w1": FIRST, "w2": SECOND, "w3": THIRD}
    return make(nodes, {"x": ["N", 16]}, {"y": ["N", 4]}, stored)


def twins() -> onnx.ModelProto:
    """Two layers read one tensor; what the second makes of it hardly counts."""
    nodes = [
        op("MatMul", ["x", "w1"], ["a"], "loud"),
        op("MatMul", ["x", "w2"], ["b"], "quiet"),
        op("Add", ["a", "b"], ["y"], "sum"),
    ]
    stored = {"w1": FIRST, "w2": FIRST[:, ::-1] * np.float32(1e-3)}
    return make(nodes, {"x": ["N", 16]}, {"y": ["N", 32]}, stored)


def asked(bench: Bench, model: onnx.ModelProto, rows: Any = ROWS, **params: Any) -> Any:
    given = {"scheme": "u8s8", "samples": len(rows), "shared": True, "max_error": 0.05, **params}
    calibration = bench.data("calibration", x=rows)
    return bench.run("sensitivity", params=given, model=bench.model(model), calibration=calibration)


def in_uint8(values: Any) -> Any:
    """The values on the grid of 256 steps between the least and the largest, with 0 on it."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = (high - low) / 255
    zero = round(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale


def in_int8(values: Any) -> Any:
    """Each column on a grid of its own from -127 to 127."""
    scale = np.abs(values).max(axis=0) / 127
    return np.rint(values / scale) * scale


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_the_error_of_a_layer_alone_is_that_of_its_grid(bench: Bench) -> None:
    _, facts = asked(bench, chain(), max_error=0.9)
    few = ROWS[: facts.rows]
    b = np.maximum(few @ FIRST, 0)
    d = np.maximum(b @ SECOND, 0)
    y = d @ THIRD
    every = np.maximum(ROWS @ FIRST, 0)  # ranges are those of all rows
    last = np.maximum(every @ SECOND, 0)

    def grid(values: Any, seen: Any) -> Any:
        return in_uint8(np.concatenate([seen, values]))[len(seen) :]

    first = grid(np.maximum(grid(few, ROWS) @ in_int8(FIRST), 0), every)
    second = grid(np.maximum(grid(b, every) @ in_int8(SECOND), 0), last)
    third = grid(grid(d, last) @ in_int8(THIRD), last @ THIRD)
    expected = {
        "first": relative(np.maximum(first @ SECOND, 0) @ THIRD, y),
        "second": relative(second @ THIRD, y),
        "third": relative(third, y),
    }
    found = {layer.name: layer.error for layer in facts.layers}
    assert found == pytest.approx(expected, rel=0.05)
    assert [layer.name for layer in facts.layers] == sorted(expected, key=lambda n: -expected[n])
    assert found["first"] > 10 * found["second"]
    assert facts.layers[0].errors == {"y": found["first"]}


def test_a_layer_has_its_bytes_and_its_share_of_the_work(bench: Bench) -> None:
    _, facts = asked(bench, chain())
    by_name = {layer.name: layer for layer in facts.layers}
    work = {"first": 16 * 32, "second": 32 * 32, "third": 32 * 4}
    for name, columns in (("first", 32), ("second", 32), ("third", 4)):
        assert by_name[name].saved == 3 * work[name] - 4 * columns
        assert by_name[name].share == pytest.approx(work[name] / sum(work.values()), rel=1e-3)
    assert by_name["second"].kind == "MatMul"


def test_the_worst_layer_stays_in_floating_point(bench: Bench) -> None:
    out, facts = asked(bench, chain())
    assert [(layer.name, layer.form) for layer in facts.layers if layer.form != "int8"] == [
        ("first", "float")
    ]
    assert facts.error <= 0.05 < facts.whole / 2
    work, saved = (16 * 32, 32 * 32, 32 * 4), (1408, 2944, 368)
    assert facts.share == pytest.approx(1 - work[0] / sum(work), rel=1e-3)
    assert facts.saved == pytest.approx(1 - saved[0] / sum(saved), rel=1e-3)
    kept = _keep.read(out)
    assert (set(kept.nodes), kept.narrow) == ({"first", "relu"}, [])
    assert "of its norm" in kept.nodes["first"]


def test_nothing_stays_where_the_error_is_small_enough(bench: Bench) -> None:
    out, facts = asked(bench, cnn(), RANDOM.normal(size=(16, 3, 16, 16)).astype(np.float32))
    assert {layer.form for layer in facts.layers} == {"int8"}
    assert facts.error == facts.whole < 0.05
    assert (facts.saved, facts.share) == (1, 1)
    assert _keep.read(out) == _keep.Keep({}, {}, [], [])


def quantized(bench: Bench, keep: Path, model: onnx.ModelProto, rows: Any = ROWS) -> Any:
    calibration = bench.data("calibration", x=rows)
    params = {"scheme": "u8s8", "samples": len(rows)}
    given = {"model": bench.model(model), "calibration": calibration, "keep": keep}
    return bench.run("quantize", params=params, **given)


def test_what_is_quantized_keeps_the_layer_and_says_so(bench: Bench) -> None:
    keep, ranked = asked(bench, chain())
    out, facts = quantized(bench, keep, chain())
    assert (facts.quantized["MatMul"], facts.floating["MatMul"]) == (2, 1)
    assert set(facts.left) == {"first", "relu"}
    answer = _runtimes.load(out, "onnxruntime").run({"x": ROWS})["y"]
    exact = np.maximum(np.maximum(ROWS @ FIRST, 0) @ SECOND, 0) @ THIRD
    assert relative(answer, exact) == pytest.approx(ranked.error, rel=0.5)
    assert relative(answer, exact) < 0.05 < ranked.whole / 2


WIDE = np.array([30, *[1] * 127], np.float32)
WIDE_ROWS = (RANDOM.normal(size=(96, 128)) * WIDE).astype(np.float32)
WIDE_FIRST, WIDE_LAST = weights(128, 32) / WIDE[:, None], weights(32, 4)


def wide() -> onnx.ModelProto:
    """One input in 128 is far from the others: it spoils all of them, its own weights only itself.

    The second layer is a Gemm, whose weights are stored the other way round.
    """
    nodes = [
        op("MatMul", ["x", "w1"], ["a"], "first"),
        op("Relu", ["a"], ["b"], "relu"),
        op("Gemm", ["b", "w2"], ["y"], "last", transB=1),
    ]
    stored = {"w1": WIDE_FIRST, "w2": np.ascontiguousarray(WIDE_LAST.T)}
    return make(nodes, {"x": ["N", 128]}, {"y": ["N", 4]}, stored)


def exact() -> Any:
    return np.maximum(WIDE_ROWS @ WIDE_FIRST, 0) @ WIDE_LAST


def test_weights_stay_in_8_bits_where_the_runtime_takes_them(bench: Bench) -> None:
    keep, ranked = asked(bench, wide(), WIDE_ROWS, narrow=True)
    assert [(layer.name, layer.form) for layer in ranked.layers] == [
        ("first", "weights"),
        ("last", "int8"),
    ]
    assert ranked.saved == 1
    out, _ = quantized(bench, keep, wide(), WIDE_ROWS)
    tensors = onnx.load(out / "model.onnx").graph.initializer
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    assert all(array.size <= 32 for array in stored.values() if array.dtype == np.float32)
    steps = np.rint(WIDE_FIRST / (np.abs(WIDE_FIRST).max(axis=0) / 127))
    np.testing.assert_array_equal(stored["w1_int8"], steps)
    answer = _runtimes.load(out, "onnxruntime").run({"x": WIDE_ROWS})["y"]
    assert relative(answer, exact()) < 0.05 < ranked.whole / 2


def test_of_all_layers_the_weights_may_stay_in_8_bits(bench: Bench) -> None:
    keep, _ = asked(bench, wide(), WIDE_ROWS, narrow=True)
    read, folder = _keep.read(keep), bench.folder()
    nodes = {name: _keep.why(0.1) for name in ("first", "relu", "last")}
    _keep.write(folder, _keep.Keep(nodes, {}, ["first", "last"]))
    out, facts = quantized(bench, folder, wide(), WIDE_ROWS)
    assert (read.narrow, facts.quantized) == (["first"], {})
    model = onnx.load(out / "model.onnx")
    assert "QuantizeLinear" not in {node.op_type for node in model.graph.node}
    sizes = [len(t.dims) and int(np.prod(t.dims)) for t in model.graph.initializer]
    assert sum(sizes) == WIDE_FIRST.size + WIDE_LAST.size + 32 + 4
    answer = _runtimes.load(out, "onnxruntime").run({"x": WIDE_ROWS})["y"]
    assert relative(answer, exact()) < 0.05


def test_openvino_keeps_them_in_8_bits_and_rounds_nothing_that_they_meet(bench: Bench) -> None:
    ov = pytest.importorskip("openvino")
    keep, ranked = asked(bench, wide(), WIDE_ROWS, narrow=True, shared=False)
    given = {"model": bench.model(wide()), "calibration": bench.data("calibration", x=WIDE_ROWS)}
    out, facts = bench.run("compile-openvino", params={"precision": "int8"}, **given, keep=keep)
    assert set(facts.left) == {"first", "relu"}
    assert (out / "model.bin").stat().st_size < 1.5 * WIDE_FIRST.size  # a byte each
    option = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]
    assert ov.Core().read_model(out / "model.xml").get_rt_info(option).astype(str) == "0"
    answer = _runtimes.load(out, "openvino").run({"x": WIDE_ROWS})["y"]
    assert relative(answer, exact()) < 0.05 < ranked.whole / 2


@pytest.mark.parametrize("kind", ["Conv", "depthwise", "ConvTranspose"])
def test_openvino_has_a_scale_for_each_channel_of_a_convolution(bench: Bench, kind: str) -> None:
    ov = pytest.importorskip("openvino")
    groups = 4 if kind == "depthwise" else 1
    shape = (4, 6, 3, 3) if kind == "ConvTranspose" else (8, 4 // groups, 3, 3)
    axis = 1 if kind == "ConvTranspose" else 0
    sizes = 10.0 ** np.linspace(-3, 3, shape[axis])  # one scale for all would lose most of them
    sizes = sizes.reshape([-1 if i == axis else 1 for i in range(4)])
    stored = (RANDOM.normal(size=shape) * sizes).astype(np.float32)
    node = op(kind.replace("depthwise", "Conv"), ["x", "w"], ["y"], "conv", group=groups)
    model = make([node], {"x": ["N", 4, 8, 8]}, {"y": ["N", shape[axis], "h", "w"]}, {"w": stored})
    made = ov.convert_model(bench.model(model) / "model.onnx")
    x = RANDOM.normal(size=(2, 4, 8, 8)).astype(np.float32)
    plain = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    _openvino_narrow.store(made, {"y"}, 8, per_channel=True)
    narrow = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    kinds = {o.get_element_type().get_type_name() for o in made.get_ops() if not o.inputs()}
    assert "i8" in kinds
    errors = [relative(narrow[:, c], plain[:, c]) for c in range(plain.shape[1])]
    assert 0 < max(errors) < 0.02


@pytest.mark.parametrize(("shared", "stay"), [(True, {"loud", "quiet"}), (False, {"loud"})])
def test_all_who_read_a_tensor_stay_where_they_share_its_pair(
    bench: Bench, shared: bool, stay: set[str]
) -> None:
    # `quiet` alone hardly shows in int8, but rounds what `loud` reads.
    _, facts = asked(bench, twins(), shared=shared)
    # ONNX Runtime joins the second with the Add behind it, and names it anew.
    left = (layer.name for layer in facts.layers if layer.form == "float")
    assert {name.partition("/")[0] for name in left} == stay


@pytest.mark.parametrize("scheme", ["u8s8", "s8s8"])
def test_what_is_quantized_is_as_near_as_was_said(bench: Bench, scheme: str) -> None:
    # Also where each reader in int8 has a pair of its own: the last one's is read by all.
    keep, ranked = asked(bench, twins(), scheme=scheme)
    given = {"model": bench.model(twins()), "calibration": bench.data("calibration", x=ROWS)}
    params = {"scheme": scheme, "samples": len(ROWS)}
    exact = ROWS @ FIRST + ROWS @ (FIRST[:, ::-1] * np.float32(1e-3))
    found = []
    for more in ({}, {"keep": _some(bench, keep)}):
        out, _ = bench.run("quantize", params=params, **given, **more)
        found.append(relative(_runtimes.load(out, "onnxruntime").run({"x": ROWS})["y"], exact))
    assert found[0] == pytest.approx(ranked.whole, rel=0.2)
    assert found[1] == pytest.approx(ranked.whole, rel=0.2)  # `loud` alone helps nothing


def _some(bench: Bench, keep: Path) -> Path:
    """The decision to leave `loud` alone, of those in `keep`."""
    folder, read = bench.folder(), _keep.read(keep)
    _keep.write(folder, _keep.Keep({"loud": read.nodes["loud"]}, {}))
    return folder


def test_names_of_the_source_are_told_where_nodes_were_joined(bench: Bench) -> None:
    nodes = [
        op("MatMul", ["x", "w1"], ["p"], "product"),
        op("Add", ["p", "bias"], ["a"], "biased"),
        op("Relu", ["a"], ["b"], "relu"),
        op("MatMul", ["b", "w2"], ["y"], "last"),
    ]
    stored = {"w1": FIRST, "bias": weights(32), "w2": SECOND}
    model = make(nodes, {"x": ["N", 16]}, {"y": ["N", 32]}, stored)
    out, _ = asked(bench, model)
    kept = _keep.read(out)
    assert {"product", "biased"} <= set(kept.source) <= {"product", "biased", "relu", *"pab"}
    assert "product" not in kept.nodes  # it is one Gemm there


def test_openvino_leaves_the_same_layer(bench: Bench) -> None:
    pytest.importorskip("openvino")
    keep, _ = asked(bench, chain(), shared=False)
    given = {"model": bench.model(chain()), "calibration": bench.data("calibration", x=ROWS)}
    _, all_int8 = bench.run("compile-openvino", params={"precision": "int8"}, **given)
    _, facts = bench.run("compile-openvino", params={"precision": "int8"}, **given, keep=keep)
    assert all_int8.quantized == {"MatMul": 3}
    assert (facts.quantized, facts.floating) == ({"MatMul": 2}, {"MatMul": 1})
    assert "of its norm" in facts.left["first"]


def test_a_model_with_scales_of_its_own_is_not_ranked(bench: Bench) -> None:
    keep, _ = asked(bench, chain())
    made, _ = quantized(bench, keep, chain())
    params = {"scheme": "u8s8", "samples": 4, "shared": True, "max_error": 0.05}
    out, facts = bench.run("sensitivity", params=params, model=made)
    assert (facts.layers, facts.source) == ((), "QDQ")
    assert _keep.read(out).nodes == {}


def test_nothing_to_quantize_has_no_layers(bench: Bench) -> None:
    out, facts = asked(bench, relu(), ROWS[:, :3])
    assert facts.layers == ()
    assert _keep.read(out).nodes == {}


def test_double_precision_is_passed_by(bench: Bench) -> None:
    # The quantizer leaves what is not in fp32; the input of the second layer is.
    nodes = [
        op("Cast", ["x"], ["wide"], "cast", to=onnx.TensorProto.DOUBLE),
        op("MatMul", ["wide", "w1"], ["a"], "double"),
        op("Cast", ["a"], ["b"], "back", to=onnx.TensorProto.FLOAT),
        op("MatMul", ["b", "w2"], ["y"], "single"),
    ]
    stored = {"w1": FIRST.astype(np.float64), "w2": SECOND}
    _, facts = asked(bench, make(nodes, {"x": ["N", 16]}, {"y": ["N", 32]}, stored))
    errors = {layer.name: layer.error for layer in facts.layers}
    assert errors["double"] == 0
    assert 0 < errors["single"] < 0.05


def test_data_is_needed(bench: Bench) -> None:
    params = {"scheme": "u8s8", "samples": 4, "shared": True, "max_error": 0.05}
    with pytest.raises(DataError, match="needs calibration data"):
        bench.run("sensitivity", params=params, model=bench.model(chain()))


def test_the_same_rows_give_the_same_bytes(bench: Bench) -> None:
    (one, facts), (other, again) = asked(bench, chain()), asked(bench, chain())
    assert (one / "keep.json").read_bytes() == (other / "keep.json").read_bytes()
    assert facts == again


COSTS = [8.0, 4.0, 2.0, 1.0]


def cost(kept: Collection[int]) -> float:
    return sum(COSTS) - sum(COSTS[number] for number in kept)


@pytest.mark.parametrize(
    ("most", "kept"),
    [(15, []), (14, [0]), (7, [0]), (6, [0, 1]), (1, [0, 1, 2]), (0, [0, 1, 2, 3])],
)
def test_the_fewest_layers_are_left(most: float, kept: list[int]) -> None:
    assert _keep.fewest([0, 1, 2, 3], cost, most) == kept


def test_what_others_make_needless_is_not_left() -> None:
    # 0 was ranked first, but only 1 and 2 together help.
    def error(kept: Collection[int]) -> float:
        return 0.0 if {1, 2} <= set(kept) else 1.0

    assert _keep.fewest([0, 1, 2, 3], error, 0.5) == [1, 2]


def test_layers_take_along_what_moves_their_values() -> None:
    nodes = [
        op("Transpose", ["x"], ["t"], "turn"),
        op("MatMul", ["t", "w"], ["a"], "dense"),
        op("Reshape", ["a", "shape"], ["b"], "heads"),
        op("Sigmoid", ["b"], ["c"], "gate"),
        op("Mul", ["b", "c"], ["y"], "swish"),
    ]
    model = make(nodes, {"x": [16, 2]}, {"y": [4, 4]}, {"w": np.zeros((16, 8), np.float32)})
    found = _layers.find(model, model.graph.node, {"t": (2, 16), "a": (2, 8)})
    assert [(layer.name, layer.nodes) for layer in found] == [
        ("dense", ("turn", "dense", "heads")),
        ("gate", ("gate",)),
        ("swish", ("swish",)),
    ]
    assert (found[0].weights, found[0].channels, found[0].macs) == (128, 8, 2 * 8 * 16)


def test_seven_bits_use_half_the_steps() -> None:
    rows = np.array([[1.0, 0.5], [-2.0, 0.0]], np.float32)
    grid = _narrow.fit(rows, per_channel=True, bits=7)
    np.testing.assert_array_equal(grid.nearest(rows), [[64, 32], [-64, 0]])
    np.testing.assert_allclose(grid.scale, [[1 / 64], [2 / 64]])


def test_a_repair_comes_before_a_layer_is_given_up(bench: Bench) -> None:
    # The far channel is made by one layer and read by the next: factors can move between them.
    far = np.array([300, *[1] * 31], np.float32)
    nodes = [
        op("MatMul", ["x", "w1"], ["a"], "first"),
        op("Relu", ["a"], ["b"], "relu"),
        op("MatMul", ["b", "w2"], ["y"], "last"),
    ]
    stored = {"w1": weights(16, 32) * far, "w2": weights(32, 4) / far[:, None]}
    model = make(nodes, {"x": ["N", 16]}, {"y": ["N", 4]}, stored)
    rows = RANDOM.normal(size=(64, 16)).astype(np.float32)
    _, plain = asked(bench, model, rows, repair=())
    _, even = asked(bench, model, rows)
    assert "last" in {layer.name for layer in plain.layers if layer.form == "float"}
    assert plain.balanced == {}
    assert {layer.form for layer in even.layers} == {"int8"}
    assert list(even.balanced) == ["last"]


def test_the_grid_may_lie_around_zero_and_be_signed() -> None:
    found = _calibrate.Range(-1.0, 3.0)

    def scale_and_zero(*, signed: bool, around_zero: bool) -> tuple[float, int]:
        grid = _switched.Grid(signed, around_zero, 8, per_channel=True, shared=True)
        return _switched.scale_and_zero(found, grid)

    assert scale_and_zero(signed=False, around_zero=False) == (4 / 255, 64)
    assert scale_and_zero(signed=False, around_zero=True) == (6 / 255, 128)
    assert scale_and_zero(signed=True, around_zero=True) == (3 / 127, 0)
