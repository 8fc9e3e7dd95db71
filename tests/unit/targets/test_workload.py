"""Counting a model's work: every figure here can be checked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from repo_builder.base.errors import ModelError
from repo_builder.targets.advise import Workload, read


def save(
    path: Path, nodes: list[Any], weights: dict[str, tuple[int, ...]], x: list[Any], out: str = "y"
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), str(path))
    return path


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def conv(inputs: str, output: str, **attributes: Any) -> Any:
    return node("Conv", inputs, output, pads=[1, 1, 1, 1], **attributes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """conv 3->8, SiLU, residual add of a second conv, global pool, gemm 8->10."""
    nodes = [
        conv("x w1 b1", "a"),
        node("Sigmoid", "a", "s"),
        node("Mul", "a s", "m"),
        conv("m w2", "c"),
        node("Add", "c m", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "y", transB=1),
    ]
    weights = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "w3": (10, 8), "b3": (10,)}
    return save(tmp_path / "m.onnx", nodes, weights, ["N", 3, 16, 16])


def test_macs_weights_and_layers(model: Path) -> None:
    work = read(model)
    assert [layer.op for layer in work.layers] == ["Conv", "Conv", "GlobalAveragePool", "Gemm"]
    assert [layer.macs for layer in work.layers] == [256 * 8 * 27, 256 * 8 * 72, 0, 80]
    assert work.weights == 216 + 8 + 576 + 80 + 10
    assert work.ops == {"Conv", "Sigmoid", "Mul", "Add", "GlobalAveragePool", "Gemm"}
    assert work.uncounted == ()


def test_a_residual_is_read_by_the_layer_that_adds_it(model: Path) -> None:
    second = read(model).layers[1]
    assert (second.reads, second.writes) == (2 * 8 * 256, 8 * 256)


def test_live_counts_what_exists_at_one_time(model: Path) -> None:
    assert read(model).live == 2 * 8 * 256


def test_batch_scales_work_but_not_weights(model: Path) -> None:
    one, four = read(model), read(model, 4)
    assert four.macs == 4 * one.macs
    assert four.weights == one.weights
    assert four.live == 4 * one.live


def test_depthwise_is_known(tmp_path: Path) -> None:
    path = save(tmp_path / "d.onnx", [conv("x w", "y", group=4)], {"w": (4, 1, 3, 3)}, [1, 4, 8, 8])
    (layer,) = read(path).layers
    assert layer.depthwise
    assert layer.macs == 64 * 4 * 9


def test_a_quantized_model_costs_what_its_float_model_costs(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "wq s z", "w"),
        conv("xd w", "y"),
    ]
    path = save(tmp_path / "q.onnx", nodes, {"s": ()}, [1, 3, 8, 8])
    quantized = onnx.load(str(path))
    quantized.graph.initializer.extend(
        numpy_helper.from_array(np.zeros(shape, np.int8), name)
        for name, shape in (("z", ()), ("wq", (4, 3, 3, 3)))
    )
    onnx.save(quantized, str(path))
    work = read(path)
    assert [layer.op for layer in work.layers] == ["Conv"]
    assert (work.macs, work.weights) == (64 * 4 * 27, 4 * 27)


def test_matmul_transposed_conv_and_lstm(tmp_path: Path) -> None:
    matmul = save(tmp_path / "1.onnx", [node("MatMul", "x w", "y")], {"w": (6, 7)}, [2, 5, 6])
    assert read(matmul, 1).macs == 2 * 5 * 7 * 6
    deconv = [node("ConvTranspose", "x w", "y", strides=[2, 2])]
    path = save(tmp_path / "2.onnx", deconv, {"w": (3, 4, 2, 2)}, [1, 3, 8, 8])
    assert read(path).macs == 3 * 64 * 16
    lstm = [node("LSTM", "x w r", "y", hidden_size=5)]
    path = save(tmp_path / "3.onnx", lstm, {"w": (1, 20, 3), "r": (1, 20, 5)}, [7, 2, 3])
    assert read(path).macs == 7 * 2 * 20 * (3 + 5)


def test_batch_normalization_is_no_operator_of_a_device(tmp_path: Path) -> None:
    nodes = [conv("x w", "c"), node("BatchNormalization", "c s b m v", "y")]
    weights = {"w": (4, 3, 3, 3), "s": (4,), "b": (4,), "m": (4,), "v": (4,)}
    assert read(save(tmp_path / "b.onnx", nodes, weights, [1, 3, 8, 8])).ops == {"Conv"}


def test_an_open_dimension_asks_for_a_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "o.onnx", [conv("x w", "y")], {"w": (4, 3, 3, 3)}, ["N", 3, "h", "w"])
    with pytest.raises(ModelError, match=r"leaves dimension 2 \(h\) open.*--shape x=1"):
        read(path)
    assert read(path, shapes={"x": (1, 3, 8, 8)}).macs == 64 * 4 * 27


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        read(path, **options)
    return str(caught.value)


def test_models_that_cannot_be_counted(tmp_path: Path, model: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.onnx")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\x08\x07junk")
    assert "is not an ONNX model" in refused(junk)
    assert "graph is empty" in refused(save(tmp_path / "e.onnx", [], {}, [1]))
    assert "has no input 'z'" in refused(model, shapes={"z": (1,)})
    assert "has 4 dimensions" in refused(model, shapes={"x": (1,)})
    fixed = save(tmp_path / "f.onnx", [conv("x w", "y")], {"w": (4, 3, 3, 3)}, [1, 3, 8, 8])
    assert "fixed to batch 1" in refused(fixed, batch=2)


def test_a_graph_out_of_order_is_refused(tmp_path: Path) -> None:
    nodes = [node("Relu", "c", "y"), conv("x w", "c")]
    path = save(tmp_path / "u.onnx", nodes, {"w": (4, 3, 3, 3)}, [1, 3, 8, 8])
    assert "uses 'c' before it exists" in refused(path)


def test_an_operator_of_unknown_shape_is_said(tmp_path: Path) -> None:
    nodes = [node("Mystery", "x", "m", domain="my"), node("MatMul", "m w", "y")]
    work = read(save(tmp_path / "m.onnx", nodes, {"w": (3, 4)}, [2, 3]))
    assert work.uncounted == ("MatMul", "Mystery")


def test_work_that_cannot_be_counted_is_said(tmp_path: Path) -> None:
    nodes = [node("Einsum", "x w", "y", equation="ij,jk->ik")]
    work: Workload = read(save(tmp_path / "e.onnx", nodes, {"w": (3, 4)}, [2, 3]))
    assert work.uncounted == ("Einsum",)
