"""Small models of the kinds that people bring and tools stumble over, with their data.

    python -m tests.zoo FOLDER PRECISION [TARGET ...]

writes them into FOLDER with a spec each, for `repo-builder build FOLDER`. Each maker returns a
model and an array for each of its inputs; a seed from the name makes them the same everywhere.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays: TypeAlias = dict[str, Any]
Made: TypeAlias = tuple[onnx.ModelProto, Arrays]
Maker: TypeAlias = Callable[[Any], Made]

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
UINT8, BOOL, DOUBLE, HALF = (
    TensorProto.UINT8,
    TensorProto.BOOL,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
)
ROWS = 64
node = helper.make_node


def w(random: Any, *shape: int, scale: float | None = None) -> Any:
    """Weights of a scale that keeps activations near 1."""
    fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    return (random.standard_normal(shape) * (scale or 1 / np.sqrt(fan))).astype(np.float32)


def model(
    nodes: list[Any],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any] | None]],
    weights: Mapping[str, Any],
    *,
    opset: int = 17,
    ir: int = 8,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info(n, *t) for n, t in inputs.items()],
        [helper.make_tensor_value_info(n, *t) for n, t in outputs.items()],
        [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(d, v) for d, v in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def rows(random: Any, *shape: int) -> Any:
    return random.standard_normal((ROWS, *shape)).astype(np.float32)


def _image(
    random: Any, head: list[Any], weights: Mapping[str, Any], out: list[Any], **more: Any
) -> Made:
    """A convolution on [n, 3, 12, 12] and what follows it, from tensor `r` to tensor `y`."""
    stored = {"w0": w(random, 8, 3, 3, 3), "b0": w(random, 8, scale=0.1), **weights}
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c"], "conv0", pads=[1] * 4),
        node("Relu", ["c"], ["r"], "relu0"),
        *head,
    ]
    made = model(nodes, {"x": (FLOAT, ["n", 3, 12, 12])}, {"y": (FLOAT, out)}, stored, **more)
    return made, {"x": rows(random, 3, 12, 12)}


def _dense(
    random: Any,
    nodes: list[Any],
    weights: Mapping[str, Any],
    out: int,
    width: int = 16,
    **more: Any,
) -> Made:
    made = model(nodes, {"x": (FLOAT, ["n", width])}, {"y": (FLOAT, ["n", out])}, weights, **more)
    return made, {"x": rows(random, width)}


def conv_plain(r: Any) -> Made:
    return _image(
        r, [node("Conv", ["r", "w1"], ["y"], "head")], {"w1": w(r, 4, 8, 1, 1)}, ["n", 4, 12, 12]
    )


def conv_groups(r: Any) -> Made:
    head = [
        node("Conv", ["r", "w1"], ["d"], "dw", group=8, pads=[1] * 4),
        node("Conv", ["d", "w2"], ["y"], "pw"),
    ]
    return _image(r, head, {"w1": w(r, 8, 1, 3, 3), "w2": w(r, 4, 8, 1, 1)}, ["n", 4, 12, 12])


def conv_transpose_groups(r: Any) -> Made:
    head = [
        node("ConvTranspose", ["r", "w1", "b1"], ["u"], "up", strides=[2, 2], group=4),
        node("Conv", ["u", "w2"], ["y"], "head"),
    ]
    weights = {"w1": w(r, 8, 2, 2, 2), "b1": w(r, 8, scale=0.1), "w2": w(r, 2, 8, 1, 1)}
    return _image(r, head, weights, ["n", 2, 24, 24])


def odd_scales(r: Any) -> Made:
    scale = np.logspace(-2, 1, 8).astype(np.float32)[:, None, None, None]
    made, data = conv_groups(r)
    for tensor in made.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(array * scale, "w1"))
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(array / scale.reshape(1, 8, 1, 1), "w2"))
    return made, data


def dead_channels(r: Any) -> Made:
    weights = w(r, 8, 3, 3, 3)
    weights[:4] = 0
    made, data = conv_plain(r)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w0"))
    return made, data


def mean_dropped(r: Any) -> Made:
    head = [
        node("ReduceMean", ["r"], ["m"], "mean", axes=[2, 3], keepdims=0),
        node("Gemm", ["m", "w1", "b1"], ["y"], "dense"),
    ]
    return _image(r, head, {"w1": w(r, 8, 5), "b1": w(r, 5, scale=0.1)}, ["n", 5])


def mean_tokens_norm(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "in"),
        node("Relu", ["a"], ["r"], "act"),
        node("ReduceMean", ["r"], ["m"], "mean", axes=[1], keepdims=0),
        node("Mul", ["m", "s"], ["v"], "scale"),
        node("Add", ["v", "b"], ["z"], "shift"),
        node("Gemm", ["z", "w2"], ["y"], "out"),
    ]
    weights = {
        "w1": w(r, 12, 32),
        "s": np.exp(r.uniform(-2, 1, 32)).astype(np.float32),
        "b": w(r, 32, scale=0.3),
        "w2": w(r, 32, 6),
    }
    made = model(nodes, {"x": (FLOAT, ["n", 9, 12])}, {"y": (FLOAT, ["n", 6])}, weights)
    return made, {"x": rows(r, 9, 12)}


def gemm_alpha_beta(r: Any) -> Made:
    nodes = [
        node("Gemm", ["x", "w1", "c"], ["a"], "one", transB=1, alpha=0.5, beta=2.5),
        node("Relu", ["a"], ["r"], "act"),
        node("Gemm", ["r", "w2"], ["y"], "two", alpha=1.5),
    ]
    return _dense(r, nodes, {"w1": w(r, 24, 16), "c": w(r, 24, scale=1.0), "w2": w(r, 24, 6)}, 6)


def gemm_bias_scalar(r: Any) -> Made:
    nodes = [node("Gemm", ["x", "w1", "c"], ["a"], "one"), node("Relu", ["a"], ["y"], "act")]
    return _dense(r, nodes, {"w1": w(r, 16, 6), "c": np.float32([0.3])}, 6)


def gemm_bias_row(r: Any) -> Made:
    return _dense(
        r,
        [node("Gemm", ["x", "w1", "c"], ["y"], "one")],
        {"w1": w(r, 16, 6), "c": w(r, 1, 6, scale=0.5)},
        6,
    )


def tied_gemm_matmul(r: Any) -> Made:
    tied = w(r, 16, 16) * np.logspace(-1, 0.5, 16).astype(np.float32)[:, None]
    nodes = [
        node("Gemm", ["x", "w1"], ["a"], "enc", transB=1),
        node("Relu", ["a"], ["r"], "act"),
        node("MatMul", ["r", "w1"], ["y"], "dec"),
    ]
    return _dense(r, nodes, {"w1": tied}, 16)


def tied_transpose(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "enc"),
        node("Relu", ["a"], ["r"], "act"),
        node("Transpose", ["w1"], ["wt"], "turn", perm=[1, 0]),
        node("MatMul", ["r", "wt"], ["y"], "dec"),
    ]
    return _dense(r, nodes, {"w1": w(r, 16, 8)}, 16)


def weights_in_constants(r: Any) -> Made:
    nodes = [
        node("Constant", [], ["k"], "k", value=numpy_helper.from_array(w(r, 16, 8), "k")),
        node("Identity", ["k"], ["k2"], "same"),
        node("MatMul", ["x", "k2"], ["a"], "dense"),
        node("Relu", ["a"], ["y"], "act"),
    ]
    return _dense(r, nodes, {}, 8)


def nameless_nodes(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("MatMul", ["r", "w2"], ["y"]),
    ]
    return _dense(r, nodes, {"w1": w(r, 16, 8), "w2": w(r, 8, 4)}, 4)


def unsorted(r: Any) -> Made:
    made, data = nameless_nodes(r)
    turned = list(reversed(made.graph.node))
    del made.graph.node[:]
    made.graph.node.extend(turned)
    return made, data


def _masked(r: Any, negative: float, how: str) -> Made:
    nodes = [
        node("MatMul", ["x", "wq"], ["q"], "q"),
        node("MatMul", ["x", "wk"], ["k"], "k"),
        node("MatMul", ["x", "wv"], ["v"], "v"),
        node("Transpose", ["k"], ["kt"], "kt", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"], "scores"),
        node("Unsqueeze", ["mask", "one"], ["m"], "lift"),
    ]
    if how == "add":
        nodes += [
            node("Sub", ["f1", "m"], ["inv"], "inv"),
            node("Mul", ["inv", "neg"], ["bias"], "bias"),
            node("Add", ["s", "bias"], ["sm"], "hide"),
        ]
    else:
        nodes += [
            node("Cast", ["m"], ["mb"], "bool", to=BOOL),
            node("Where", ["mb", "s", "neg"], ["sm"], "hide"),
        ]
    nodes += [
        node("Softmax", ["sm"], ["p"], "soft", axis=-1),
        node("MatMul", ["p", "v"], ["o"], "mix"),
        node("MatMul", ["o", "wo"], ["y"], "out"),
    ]
    weights = {name: w(r, 16, 16) for name in ("wq", "wk", "wv", "wo")}
    weights |= {"one": np.array([1]), "f1": np.float32(1), "neg": np.float32(negative)}
    if how != "add":
        del weights["f1"]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 10, 16]), "mask": (FLOAT, ["n", 10])},
        {"y": (FLOAT, ["n", 10, 16])},
        weights,
    )
    mask = (np.arange(10)[None] < r.integers(4, 11, ROWS)[:, None]).astype(np.float32)
    return made, {"x": rows(r, 10, 16), "mask": mask}


def mask_added(r: Any) -> Made:
    return _masked(r, -1e4, "add")


def mask_least(r: Any) -> Made:
    return _masked(r, float(np.finfo(np.float32).min), "add")


def mask_where(r: Any) -> Made:
    return _masked(r, -1e9, "where")


def layer_norm_parts(r: Any) -> Made:
    nodes = [
        node("ReduceMean", ["x"], ["mu"], "mu", axes=[-1]),
        node("Sub", ["x", "mu"], ["c"], "center"),
        node("Pow", ["c", "two"], ["p"], "square"),
        node("ReduceMean", ["p"], ["v"], "var", axes=[-1]),
        node("Add", ["v", "eps"], ["ve"], "eps"),
        node("Sqrt", ["ve"], ["sd"], "sd"),
        node("Div", ["c", "sd"], ["z"], "norm"),
        node("MatMul", ["z", "w1"], ["y"], "dense"),
    ]
    weights = {"two": np.float32(2), "eps": np.float32(1e-5), "w1": w(r, 32, 8)}
    made = model(nodes, {"x": (FLOAT, ["n", 6, 32])}, {"y": (FLOAT, ["n", 6, 8])}, weights)
    return made, {"x": rows(r, 6, 32)}


def layer_norm_large(r: Any) -> Made:
    made, data = layer_norm_parts(r)
    data["x"][:, :, 3] *= 800
    return made, data


def gelu_parts(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "in"),
        node("Div", ["a", "root"], ["d"], "scale"),
        node("Erf", ["d"], ["e"], "erf"),
        node("Add", ["e", "one"], ["f"], "shift"),
        node("Mul", ["a", "f"], ["g"], "gate"),
        node("Mul", ["g", "half"], ["h"], "half"),
        node("MatMul", ["h", "w2"], ["y"], "out"),
    ]
    weights = {
        "w1": w(r, 16, 32),
        "w2": w(r, 32, 4),
        "root": np.float32(2**0.5),
        "one": np.float32(1),
        "half": np.float32(0.5),
    }
    return _dense(r, nodes, weights, 4)


def softmax_head(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "dense"),
        node("Softmax", ["a"], ["y"], "soft", axis=-1),
    ]
    return _dense(r, nodes, {"w1": w(r, 16, 6, scale=1.0)}, 6)


def softmax_opset9(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "dense"),
        node("Softmax", ["a"], ["y"], "soft", axis=1),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 4, 16])},
        {"y": (FLOAT, ["n", 4, 6])},
        {"w1": w(r, 16, 6)},
        opset=9,
        ir=4,
    )
    return made, {"x": rows(r, 4, 16)}


def _up(r: Any, opset: int) -> Made:
    scales = np.float32([1, 1, 2, 2])
    ir = {9: 4, 10: 5, 13: 8}[opset]
    up = {
        9: lambda: node("Upsample", ["r", "s"], ["u"], "up", mode="linear"),
        10: lambda: node("Resize", ["r", "s"], ["u"], "up", mode="linear"),
        13: lambda: node("Resize", ["r", "", "s"], ["u"], "up", mode="nearest"),
    }[opset]()
    head = [up, node("Conv", ["u", "w1"], ["y"], "head", pads=[1] * 4)]
    return _image(
        r, head, {"s": scales, "w1": w(r, 4, 8, 3, 3)}, ["n", 4, 24, 24], opset=opset, ir=ir
    )


def upsample_9(r: Any) -> Made:
    return _up(r, 9)


def resize_10(r: Any) -> Made:
    return _up(r, 10)


def resize_13(r: Any) -> Made:
    return _up(r, 13)


def detector_one_output(r: Any) -> Made:
    head = [
        node("Conv", ["r", "wb", "bb"], ["box"], "boxes"),
        node("Conv", ["r", "ws", "bs"], ["cls"], "classes"),
        node("Reshape", ["box", "sb"], ["boxr"], "flat_boxes"),
        node("Reshape", ["cls", "ss"], ["clsr"], "flat_classes"),
        node("Mul", ["boxr", "stride"], ["pixels"], "pixels"),
        node("Sigmoid", ["clsr"], ["score"], "score"),
        node("Concat", ["pixels", "score"], ["y"], "join", axis=1),
    ]
    weights = {
        "wb": w(r, 4, 8, 1, 1),
        "bb": np.full(4, 10, np.float32),
        "ws": w(r, 3, 8, 1, 1),
        "bs": np.full(3, -1, np.float32),
        "sb": np.array([0, 4, 144]),
        "ss": np.array([0, 3, 144]),
        "stride": np.float32(32),
    }
    return _image(r, head, weights, ["n", 7, 144])


def two_outputs(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "one"),
        node("MatMul", ["x", "w2"], ["b"], "two"),
        node("Mul", ["b", "k"], ["z"], "large"),
        node("Sigmoid", ["a"], ["y"], "small"),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 16])},
        {"y": (FLOAT, ["n", 3]), "z": (FLOAT, ["n", 4])},
        {"w1": w(r, 16, 3), "w2": w(r, 16, 4), "k": np.float32(1000)},
    )
    return made, {"x": rows(r, 16)}


def nhwc(r: Any) -> Made:
    nodes = [
        node("Transpose", ["x"], ["t"], "nchw", perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w1", "b1"], ["c"], "conv", pads=[1] * 4),
        node("Relu", ["c"], ["r"], "act"),
        node("GlobalAveragePool", ["r"], ["g"], "pool"),
        node("Flatten", ["g"], ["f"], "flat"),
        node("Gemm", ["f", "w2", "b2"], ["y"], "dense"),
    ]
    weights = {
        "w1": w(r, 8, 3, 3, 3),
        "b1": w(r, 8, scale=0.1),
        "w2": w(r, 8, 5),
        "b2": w(r, 5, scale=0.1),
    }
    made = model(
        nodes, {"x": (FLOAT, ["n", 12, 12, 3])}, {"y": (FLOAT, ["n", 5])}, weights, opset=13
    )
    return made, {"x": rows(r, 12, 12, 3)}


def nhwc_output(r: Any) -> Made:
    nodes = [
        node("Transpose", ["x"], ["t"], "nchw", perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w1"], ["c"], "conv", pads=[1] * 4),
        node("Transpose", ["c"], ["y"], "nhwc", perm=[0, 2, 3, 1]),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 8, 8, 3])},
        {"y": (FLOAT, ["n", 8, 8, 4])},
        {"w1": w(r, 4, 3, 3, 3)},
        opset=13,
    )
    return made, {"x": rows(r, 8, 8, 3)}


def wrong_output_shape(r: Any) -> Made:
    made, data = nameless_nodes(r)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, [1, "len"]))
    return made, data


def wrong_output_rank(r: Any) -> Made:
    nodes = [node("MatMul", ["x", "w1"], ["a"], "dense"), node("Relu", ["a"], ["y"], "act")]
    made = model(nodes, {"x": (FLOAT, ["n", 4, 16])}, {"y": (FLOAT, ["n", 8])}, {"w1": w(r, 16, 8)})
    return made, {"x": rows(r, 4, 16)}


def minus_one_dims(r: Any) -> Made:
    made, data = conv_plain(r)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    return made, data


def wrong_value_info(r: Any) -> Made:
    made, data = conv_plain(r)
    made.graph.value_info.append(helper.make_tensor_value_info("r", FLOAT, ["n", 5, 3, 3]))
    return made, data


def initializers_as_inputs(r: Any) -> Made:
    made, data = conv_plain(r)
    made.ir_version = 3
    made.opset_import[0].version = 8
    for tensor in made.graph.initializer:
        made.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    return made, data


def one_batch_only(r: Any) -> Made:
    nodes = [
        node("Reshape", ["x", "to"], ["f"], "flat"),
        node("MatMul", ["f", "w1"], ["y"], "dense"),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, [1, 4, 4])},
        {"y": (FLOAT, [1, 3])},
        {"to": np.array([1, 16]), "w1": w(r, 16, 3)},
    )
    return made, {"x": rows(r, 4, 4)}


def batch_mixed_in(r: Any) -> Made:
    nodes = [
        node("ReduceMean", ["x"], ["m"], "over_rows", axes=[0], keepdims=1),
        node("Sub", ["x", "m"], ["c"], "center"),
        node("MatMul", ["c", "w1"], ["y"], "dense"),
    ]
    return _dense(r, nodes, {"w1": w(r, 16, 4)}, 4)


def lstm(r: Any) -> Made:
    nodes = [
        node("Transpose", ["x"], ["t"], "time_first", perm=[1, 0, 2]),
        node("LSTM", ["t", "w1", "r1"], ["all", "h"], "lstm", hidden_size=8),
        node("Squeeze", ["h", "zero"], ["hs"], "last"),
        node("Gemm", ["hs", "w2"], ["y"], "dense"),
    ]
    weights = {
        "w1": w(r, 1, 32, 5, scale=0.3),
        "r1": w(r, 1, 32, 8, scale=0.3),
        "zero": np.array([0]),
        "w2": w(r, 8, 3),
    }
    made = model(nodes, {"x": (FLOAT, ["n", 7, 5])}, {"y": (FLOAT, ["n", 3])}, weights)
    return made, {"x": rows(r, 7, 5)}


def gru_state(r: Any) -> Made:
    nodes = [
        node("GRU", ["x", "w1", "r1", "", "", "h"], ["all", "h_out"], "gru", hidden_size=6),
        node("Squeeze", ["all", "one"], ["y"], "flat"),
    ]
    weights = {
        "w1": w(r, 1, 18, 4, scale=0.3),
        "r1": w(r, 1, 18, 6, scale=0.3),
        "one": np.array([1]),
    }
    made = model(
        nodes,
        {"x": (FLOAT, [1, 1, 4]), "h": (FLOAT, [1, 1, 6])},
        {"y": (FLOAT, [1, 1, 6]), "h_out": (FLOAT, [1, 1, 6])},
        weights,
    )
    return made, {"x": rows(r, 1, 4), "h": rows(r, 1, 6)}


def state_of_two(r: Any) -> Made:
    nodes = [
        node("Split", ["state"], ["hh", "cc"], "part", axis=0, num_outputs=2),
        node(
            "LSTM",
            ["x", "w1", "r1", "", "", "hh", "cc"],
            ["all", "hn", "cn"],
            "lstm",
            hidden_size=8,
        ),
        node("Concat", ["hn", "cn"], ["state_out"], "join", axis=0),
        node("Squeeze", ["hn", "zero"], ["y"], "flat"),
    ]
    weights = {
        "w1": w(r, 1, 32, 6, scale=0.3),
        "r1": w(r, 1, 32, 8, scale=0.3),
        "zero": np.array([0]),
    }
    made = model(
        nodes,
        {"x": (FLOAT, [1, 1, 6]), "state": (FLOAT, [2, 1, 8])},
        {"y": (FLOAT, [1, 8]), "state_out": (FLOAT, [2, 1, 8])},
        weights,
        opset=18,
    )
    return made, {"x": rows(r, 1, 1, 6), "state": rows(r, 2, 1, 8)}


def token_embedding(r: Any) -> Made:
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "embed"),
        node("ReduceMean", ["e"], ["m"], "mean", axes=[1], keepdims=0),
        node("MatMul", ["m", "w1"], ["y"], "dense"),
    ]
    made = model(
        nodes,
        {"ids": (INT64, ["n", 6])},
        {"y": (FLOAT, ["n", 4])},
        {"table": w(r, 50, 16, scale=1.0), "w1": w(r, 16, 4)},
    )
    return made, {"ids": r.integers(0, 50, (ROWS, 6))}


def integers_large(r: Any) -> Made:
    nodes = [node("Mul", ["t", "k"], ["m"], "times"), node("Add", ["m", "o"], ["y"], "plus")]
    made = model(
        nodes,
        {"t": (INT64, ["n", 2])},
        {"y": (INT64, ["n", 2])},
        {"k": np.array(3), "o": np.array(7)},
    )
    return made, {"t": r.integers(0, 2**40, (ROWS, 2))}


def integers_small(r: Any) -> Made:
    nodes = [node("Mul", ["t", "k"], ["m"], "times"), node("Add", ["m", "o"], ["y"], "plus")]
    made = model(
        nodes,
        {"t": (INT32, ["n", 2])},
        {"y": (INT32, ["n", 2])},
        {"k": np.int32(3), "o": np.int32(7)},
    )
    return made, {"t": r.integers(-1000, 1000, (ROWS, 2)).astype(np.int32)}


def uint8_image(r: Any) -> Made:
    nodes = [
        node("Cast", ["x"], ["f"], "float", to=FLOAT),
        node("Div", ["f", "k"], ["s"], "scale"),
        node("Conv", ["s", "w1"], ["c"], "conv"),
        node("GlobalAveragePool", ["c"], ["g"], "pool"),
        node("Flatten", ["g"], ["y"], "flat"),
    ]
    made = model(
        nodes,
        {"x": (UINT8, ["n", 3, 8, 8])},
        {"y": (FLOAT, ["n", 4])},
        {"k": np.float32(255), "w1": w(r, 4, 3, 3, 3)},
    )
    return made, {"x": r.integers(0, 256, (ROWS, 3, 8, 8)).astype(np.uint8)}


def argmax_label(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["s"], "dense"),
        node("ArgMax", ["s"], ["label"], "best", axis=1, keepdims=0),
        node("Softmax", ["s"], ["y"], "soft", axis=1),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 16])},
        {"label": (INT64, ["n"]), "y": (FLOAT, ["n", 5])},
        {"w1": w(r, 16, 5, scale=1.0)},
    )
    return made, {"x": rows(r, 16)}


def double_model(r: Any) -> Made:
    nodes = [node("MatMul", ["x", "w1"], ["a"], "dense"), node("Tanh", ["a"], ["y"], "act")]
    made = model(
        nodes,
        {"x": (DOUBLE, ["n", 8])},
        {"y": (DOUBLE, ["n", 3])},
        {"w1": w(r, 8, 3).astype(np.float64)},
    )
    return made, {"x": rows(r, 8).astype(np.float64)}


def half_model(r: Any) -> Made:
    nodes = [node("MatMul", ["x", "w1"], ["a"], "dense"), node("Relu", ["a"], ["y"], "act")]
    made = model(
        nodes,
        {"x": (HALF, ["n", 8])},
        {"y": (HALF, ["n", 3])},
        {"w1": w(r, 8, 3).astype(np.float16)},
    )
    return made, {"x": rows(r, 8).astype(np.float16)}


def if_branches(r: Any) -> Made:
    def branch(name: str, weight: str) -> Any:
        return helper.make_graph(
            [node("MatMul", ["x", weight], [name], name)],
            name,
            [],
            [helper.make_tensor_value_info(name, FLOAT, ["n", 4])],
        )

    nodes = [
        node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        node("Greater", ["s", "zero"], ["c"], "sign"),
        node(
            "If",
            ["c"],
            ["y"],
            "choose",
            then_branch=branch("yes", "w1"),
            else_branch=branch("no", "w2"),
        ),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, [1, 16])},
        {"y": (FLOAT, [1, 4])},
        {"zero": np.float32(0), "w1": w(r, 16, 4), "w2": w(r, 16, 4)},
    )
    return made, {"x": rows(r, 16)}


def shape_arithmetic(r: Any) -> Made:
    nodes = [
        node("Shape", ["x"], ["s"], "shape"),
        node("Gather", ["s", "i0"], ["n0"], "rows", axis=0),
        node("Unsqueeze", ["n0", "z"], ["n1"], "lift"),
        node("Concat", ["n1", "rest"], ["to"], "target", axis=0),
        node("Reshape", ["x", "to"], ["f"], "flat"),
        node("MatMul", ["f", "w1"], ["y"], "dense"),
    ]
    weights = {"i0": np.array(0), "z": np.array([0]), "rest": np.array([16]), "w1": w(r, 16, 4)}
    made = model(nodes, {"x": (FLOAT, ["n", 4, 4])}, {"y": (FLOAT, ["n", 4])}, weights)
    return made, {"x": rows(r, 4, 4)}


def dynamic_size(r: Any) -> Made:
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "conv", pads=[1] * 4),
        node("Relu", ["c"], ["r"], "act"),
        node("GlobalAveragePool", ["r"], ["g"], "pool"),
        node("Flatten", ["g"], ["y"], "flat"),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 3, "h", "w"])},
        {"y": (FLOAT, ["n", 8])},
        {"w1": w(r, 8, 3, 3, 3)},
    )
    return made, {"x": rows(r, 3, 20, 24)}


def constant_output(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "dense"),
        node("Mul", ["a", "zero"], ["b"], "none"),
        node("Add", ["b", "k"], ["y"], "const"),
    ]
    return _dense(
        r, nodes, {"w1": w(r, 16, 3), "zero": np.float32(0), "k": np.float32([1, 2, 3])}, 3
    )


def relu6(r: Any) -> Made:
    head = [
        node("Clip", ["r", "lo", "hi"], ["k"], "relu6"),
        node("Conv", ["k", "w1"], ["y"], "head"),
    ]
    return _image(
        r,
        head,
        {"lo": np.float32(0), "hi": np.float32(6), "w1": w(r, 4, 8, 1, 1)},
        ["n", 4, 12, 12],
    )


def residual(r: Any) -> Made:
    head = [
        node("Conv", ["r", "w1"], ["c1"], "conv1", pads=[1] * 4),
        node("Add", ["c1", "r"], ["s"], "skip"),
        node("Relu", ["s"], ["r2"], "relu2"),
        node("MaxPool", ["r2"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], "flat"),
        node("Gemm", ["f", "w2"], ["y"], "dense"),
    ]
    return _image(r, head, {"w1": w(r, 8, 8, 3, 3), "w2": w(r, 288, 4)}, ["n", 4])


def concat_ranges(r: Any) -> Made:
    head = [
        node("Conv", ["r", "w1"], ["a"], "left"),
        node("Conv", ["r", "w2"], ["b"], "right"),
        node("Concat", ["a", "b"], ["j"], "join", axis=1),
        node("Conv", ["j", "w3"], ["y"], "head"),
    ]
    weights = {"w1": w(r, 4, 8, 1, 1), "w2": w(r, 4, 8, 1, 1) * 50, "w3": w(r, 3, 8, 1, 1)}
    return _image(r, head, weights, ["n", 3, 12, 12])


def qdq_source(r: Any) -> Made:
    """A model of quantization-aware training: symmetric pairs around weights and activations."""
    weight = w(r, 16, 8)
    scale = np.float32(np.abs(weight).max() / 127)
    stored = {
        "wq": np.clip(np.rint(weight / scale), -127, 127).astype(np.int8),
        "ws": scale, "zp": np.int8(0), "xs": np.float32(0.03), "ys": np.float32(0.05),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "xs", "zp"], ["xq"], "xq"),
        node("DequantizeLinear", ["xq", "xs", "zp"], ["xd"], "xd"),
        node("DequantizeLinear", ["wq", "ws", "zp"], ["wd"], "wd"),
        node("MatMul", ["xd", "wd"], ["a"], "dense"),
        node("Relu", ["a"], ["r"], "act"),
        node("QuantizeLinear", ["r", "ys", "zp"], ["rq"], "rq"),
        node("DequantizeLinear", ["rq", "ys", "zp"], ["y"], "rd"),
    ]
    return _dense(r, nodes, stored, 8)


def dynamic_quantized(r: Any) -> Made:
    weight = r.integers(-127, 128, (16, 8)).astype(np.int8)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"], "dyn"),
        node("MatMulInteger", ["xq", "wq", "xz"], ["i"], "int"),
        node("Cast", ["i"], ["f"], "float", to=FLOAT),
        node("Mul", ["xs", "ws"], ["s"], "scales"),
        node("Mul", ["f", "s"], ["y"], "scaled"),
    ]
    return _dense(r, nodes, {"wq": weight, "ws": np.float32(0.01)}, 8)


def forest(r: Any) -> Made:
    nodes = [
        node(
            "TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", n_targets=1,
            nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[0.5, 0.0, 0.0],
            nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0],
            target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0],
        )
    ]  # fmt: skip
    return _dense(r, nodes, {}, 1, width=4, domains={"ai.onnx.ml": 3})


def zip_map(r: Any) -> Made:
    ml, four = "ai.onnx.ml", [0.1] * 4
    nodes = [
        node("Scaler", ["x"], ["s"], "scaler", domain=ml, offset=four, scale=[2.0] * 4),
        node(
            "LinearClassifier", ["s"], ["label", "scores"], "logistic", domain=ml,
            coefficients=r.standard_normal(12).tolist(), intercepts=[0.0, 0.1, 0.2],
            classlabels_ints=[0, 1, 2], post_transform="SOFTMAX", multi_class=1,
        ),
        node("ZipMap", ["scores"], ["maps"], "zip", domain=ml, classlabels_int64s=[0, 1, 2]),
    ]  # fmt: skip
    made = model(
        nodes, {"x": (FLOAT, ["n", 4])}, {"label": (INT64, ["n"])}, {}, domains={"ai.onnx.ml": 3}
    )
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, None))
    )
    made.graph.output.append(helper.make_value_info("maps", kind))
    return made, {"x": rows(r, 4)}


def scalar_output(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "dense"),
        node("ReduceMean", ["a"], ["y"], "mean", keepdims=0),
    ]
    made = model(nodes, {"x": (FLOAT, [1, 16])}, {"y": (FLOAT, [])}, {"w1": w(r, 16, 4)})
    return made, {"x": rows(r, 16)}


def long_reduction(r: Any) -> Made:
    nodes = [
        node("ReduceSum", ["x", "axis"], ["s"], "sum", keepdims=1),
        node("Mul", ["s", "k"], ["y"], "scale"),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 4096])},
        {"y": (FLOAT, ["n", 1])},
        {"axis": np.array([1]), "k": np.float32(1e-4)},
    )
    return made, {"x": (rows(r, 4096) + 40).astype(np.float32)}


def exp_unshifted(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "dense"),
        node("Exp", ["a"], ["e"], "exp"),
        node("ReduceSum", ["e", "axis"], ["s"], "sum", keepdims=1),
        node("Div", ["e", "s"], ["y"], "share"),
    ]
    return _dense(r, nodes, {"w1": w(r, 16, 6, scale=1.6), "axis": np.array([1])}, 6)


def group_norm_parts(r: Any) -> Made:
    head = [
        node("Reshape", ["r", "to"], ["g"], "groups"),
        node("InstanceNormalization", ["g", "one", "nil"], ["i"], "norm"),
        node("Reshape", ["i", "back"], ["b"], "back"),
        node("Conv", ["b", "w1"], ["y"], "head"),
    ]
    weights = {
        "to": np.array([0, 2, -1]),
        "one": np.ones(2, np.float32),
        "nil": np.zeros(2, np.float32),
        "back": np.array([0, 8, 12, 12]),
        "w1": w(r, 3, 8, 1, 1),
    }
    return _image(r, head, weights, ["n", 3, 12, 12])


def prelu_pad_slice(r: Any) -> Made:
    head = [
        node("PRelu", ["r", "slope"], ["p"], "prelu"),
        node("Pad", ["p", "pads"], ["q"], "pad"),
        node("Slice", ["q", "from", "until", "axes"], ["z"], "crop"),
        node("Conv", ["z", "w1"], ["y"], "head"),
    ]
    weights = {
        "slope": w(r, 8, 1, 1, scale=0.2),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "from": np.array([1, 1]),
        "until": np.array([13, 13]),
        "axes": np.array([2, 3]),
        "w1": w(r, 3, 8, 1, 1),
    }
    return _image(r, head, weights, ["n", 3, 12, 12])


def space_to_depth(r: Any) -> Made:
    head = [
        node("SpaceToDepth", ["r"], ["s"], "focus", blocksize=2),
        node("Conv", ["s", "w1"], ["y"], "head"),
    ]
    return _image(r, head, {"w1": w(r, 4, 32, 1, 1)}, ["n", 4, 6, 6])


def split_chunks(r: Any) -> Made:
    head = [
        node("Split", ["r", "parts"], ["a", "b"], "chunk", axis=1),
        node("Conv", ["a", "w1"], ["c1"], "branch", pads=[1] * 4),
        node("Concat", ["c1", "b"], ["j"], "join", axis=1),
        node("Conv", ["j", "w2"], ["y"], "head"),
    ]
    return _image(
        r,
        head,
        {"parts": np.array([4, 4]), "w1": w(r, 4, 4, 3, 3), "w2": w(r, 3, 8, 1, 1)},
        ["n", 3, 12, 12],
    )


def conv1d(r: Any) -> Made:
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c"], "conv", pads=[2, 2]),
        node("Relu", ["c"], ["r"], "act"),
        node("GlobalAveragePool", ["r"], ["g"], "pool"),
        node("Flatten", ["g"], ["f"], "flat"),
        node("Gemm", ["f", "w2"], ["y"], "dense"),
    ]
    weights = {"w1": w(r, 8, 2, 5), "b1": w(r, 8, scale=0.1), "w2": w(r, 8, 3)}
    made = model(nodes, {"x": (FLOAT, ["n", 2, 64])}, {"y": (FLOAT, ["n", 3])}, weights)
    return made, {"x": rows(r, 2, 64)}


def two_inputs(r: Any) -> Made:
    nodes = [
        node("Concat", ["x", "extra"], ["j"], "join", axis=1),
        node("MatMul", ["j", "w1"], ["a"], "dense"),
        node("Sigmoid", ["a"], ["y"], "gate"),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 10]), "extra": (FLOAT, ["n", 6])},
        {"y": (FLOAT, ["n", 4])},
        {"w1": w(r, 16, 4, scale=0.5)},
    )
    return made, {"x": rows(r, 10), "extra": rows(r, 6) * 100}


def top_k(r: Any) -> Made:
    nodes = [
        node("MatMul", ["x", "w1"], ["s"], "dense"),
        node("TopK", ["s", "k"], ["y", "which"], "best", axis=1),
    ]
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 16])},
        {"y": (FLOAT, ["n", 3]), "which": (INT64, ["n", 3])},
        {"w1": w(r, 16, 10, scale=1.0), "k": np.array([3])},
    )
    return made, {"x": rows(r, 16)}


def random_inside(r: Any) -> Made:
    nodes = [
        node("RandomNormalLike", ["x"], ["z"], "noise"),
        node("Add", ["x", "z"], ["y"], "noisy"),
    ]
    return _dense(r, nodes, {}, 16)


MODELS: dict[str, Maker] = {
    name.replace("_", "-"): value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and not name.startswith("_")
    and name not in ("w", "model", "rows")
}


def make(name: str) -> Made:
    """A model of the zoo and its data."""
    return MODELS[name](np.random.default_rng(zlib.crc32(name.encode())))


def write(folder: Path, targets: list[str], precision: str) -> None:
    """All models below `folder`, a spec each; half of the rows calibrate, half stay unseen."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        made, data = make(name)
        onnx.save(made, folder / f"{name}.onnx")
        half = ROWS // 2
        np.savez(folder / f"{name}-calibration.npz", **{k: a[:half] for k, a in data.items()})
        np.savez(folder / f"{name}-unseen.npz", **{k: a[half:] for k, a in data.items()})
        (folder / f"{name}.yaml").write_text(
            f"name: {name}\nversion: 1.0.0\nsource: {{onnx: {name}.onnx}}\n"
            f"targets: [{', '.join(targets)}]\n"
            f"data: {{calibration: {{path: {name}-calibration.npz, samples: {half}}}}}\n"
            f"optimize: {{precision: {precision}}}\n"
        )


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[3:] or ["cpu"], sys.argv[2])
    print(json.dumps(sorted(MODELS)))
