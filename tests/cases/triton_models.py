"""Small ONNX models in a Triton repository, made where a test needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto as T
from onnx import helper as h

from repo_builder import serve

StartTriton = Callable[..., serve.Triton]
Tensor = tuple[str, int, list[int | str]]

TRITON_TYPES = {
    T.BOOL: "TYPE_BOOL",
    T.UINT8: "TYPE_UINT8",
    T.INT8: "TYPE_INT8",
    T.INT32: "TYPE_INT32",
    T.INT64: "TYPE_INT64",
    T.FLOAT16: "TYPE_FP16",
    T.BFLOAT16: "TYPE_BF16",
    T.FLOAT: "TYPE_FP32",
    T.DOUBLE: "TYPE_FP64",
    T.STRING: "TYPE_STRING",
}


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """An ONNX model of these nodes; a tensor is (name, ONNX type, shape)."""
    graph = h.make_graph(
        list(nodes),
        "test",
        [h.make_tensor_value_info(*tensor) for tensor in inputs],
        [h.make_tensor_value_info(*tensor) for tensor in outputs],
        list(constants),
    )
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def config(
    name: str, made: onnx.ModelProto, *, backend: str, max_batch_size: int, more: str = ""
) -> str:
    """A config.pbtxt for the model, with explicit inputs and outputs, and `more` of its text."""
    lines = [f'name: "{name}"', f'backend: "{backend}"', f"max_batch_size: {max_batch_size}"]
    for kind in ("input", "output"):
        for value in getattr(made.graph, kind):
            tensor = value.type.tensor_type
            dims = [d.dim_value or -1 for d in tensor.shape.dim][1 if max_batch_size else 0 :]
            dims = dims or [1]
            lines.append(
                f'{kind} [{{ name: "{value.name}" data_type: {TRITON_TYPES[tensor.elem_type]} '
                f"dims: {dims} }}]"
            )
    if "instance_group" not in more:
        lines.append("instance_group [{ kind: KIND_CPU count: 1 }]")
    return "\n".join([*lines, more])


def add(
    repository: Path,
    name: str,
    made: onnx.ModelProto,
    *,
    backend: str = "onnxruntime",
    max_batch_size: int = 0,
    more: str = "",
    replace: tuple[str, str] | None = None,
) -> Path:
    """Put the model into the repository as version 1; returns its folder.

    `more` is added to its config.pbtxt, where the first text of `replace` becomes the second.
    """
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    if backend == "openvino":
        import openvino as ov

        ov.save_model(ov.Core().read_model(made.SerializeToString()), folder / "1" / "model.xml")
    else:
        onnx.save(made, folder / "1" / "model.onnx")
    text = config(name, made, backend=backend, max_batch_size=max_batch_size, more=more)
    if replace:
        assert replace[0] in text
        text = text.replace(*replace)
    (folder / "config.pbtxt").write_text(text)
    return folder


def counting() -> onnx.ModelProto:
    """y = 2x, and `rows`: for each row the number of rows of the run that it was in."""
    return model(
        [
            h.make_node("Add", ["x", "x"], ["y"]),
            h.make_node("Shape", ["x"], ["n"], start=0, end=1),
            h.make_node("Concat", ["n", "one"], ["shape"], axis=0),
            h.make_node("Expand", ["n", "shape"], ["rows"]),
        ],
        [("x", T.FLOAT, ["n", "width"])],
        [("y", T.FLOAT, ["n", "width"]), ("rows", T.INT64, ["n", 1])],
        [h.make_tensor("one", T.INT64, [1], [1])],
    )


def looping() -> onnx.ModelProto:
    """`y`: x after `turns` products with a matrix, so that a request takes as long as it says."""
    body = h.make_graph(
        [
            h.make_node("MatMul", ["before", "turn"], ["after"]),
            h.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            h.make_tensor_value_info("i", T.INT64, []),
            h.make_tensor_value_info("go", T.BOOL, []),
            h.make_tensor_value_info("before", T.FLOAT, [256, 256]),
        ],
        [
            h.make_tensor_value_info("on", T.BOOL, []),
            h.make_tensor_value_info("after", T.FLOAT, [256, 256]),
        ],
    )
    return model(
        [
            h.make_node("Reshape", ["turns", "none"], ["count"]),
            h.make_node("Expand", ["x", "square"], ["start"]),
            h.make_node("EyeLike", ["start"], ["turn"]),
            h.make_node("Loop", ["count", "", "start"], ["end"], body=body),
            h.make_node("ReduceMax", ["end"], ["most"], keepdims=0),
            h.make_node("Reshape", ["most", "one"], ["y"]),
        ],
        [("x", T.FLOAT, [1]), ("turns", T.INT64, [1])],
        [("y", T.FLOAT, [1])],
        [
            h.make_tensor("none", T.INT64, [0], []),
            h.make_tensor("one", T.INT64, [1], [1]),
            h.make_tensor("square", T.INT64, [2], [256, 256]),
        ],
    )


def lookup() -> onnx.ModelProto:
    """`same` = x, and `found`: row x of a table of four, which fails for any other x."""
    return model(
        [
            h.make_node("Identity", ["x"], ["same"]),
            h.make_node("Gather", ["table", "x"], ["found"]),
        ],
        [("x", T.INT64, ["n", 1])],
        [("same", T.INT64, ["n", 1]), ("found", T.FLOAT, ["n", 1])],
        [h.make_tensor("table", T.FLOAT, [4], [10.0, 11.0, 12.0, 13.0])],
    )


def first() -> onnx.ModelProto:
    """`first`: the first row of x, whatever the number of rows: a batch dimension that lies."""
    return model(
        [h.make_node("Compress", ["x", "one"], ["first"], axis=0)],
        [("x", T.FLOAT, ["n", 1])],
        [("first", T.FLOAT, ["m", 1])],
        [h.make_tensor("one", T.BOOL, [1], [True])],
    )


def greeting() -> onnx.ModelProto:
    """`greeting`: "hello " before each string of `name`."""
    return model(
        [h.make_node("StringConcat", ["hello", "name"], ["greeting"])],
        [("name", T.STRING, ["n", 1])],
        [("greeting", T.STRING, ["n", 1])],
        [h.make_tensor("hello", T.STRING, [1], [b"hello "])],
    )


def half() -> onnx.ModelProto:
    """y = 2x and `rows` as `counting`, where x and y are bfloat16 and float32 is inside."""
    return model(
        [
            h.make_node("Cast", ["x"], ["wide"], to=T.FLOAT),
            h.make_node("Add", ["wide", "wide"], ["sum"]),
            h.make_node("Cast", ["sum"], ["y"], to=T.BFLOAT16),
            h.make_node("Shape", ["x"], ["n"], start=0, end=1),
            h.make_node("Concat", ["n", "one"], ["shape"], axis=0),
            h.make_node("Expand", ["n", "shape"], ["rows"]),
        ],
        [("x", T.BFLOAT16, ["n", "width"])],
        [("y", T.BFLOAT16, ["n", "width"]), ("rows", T.INT64, ["n", 1])],
        [h.make_tensor("one", T.INT64, [1], [1])],
    )


ECHOED = {
    "bool": T.BOOL,
    "uint8": T.UINT8,
    "int8": T.INT8,
    "int32": T.INT32,
    "int64": T.INT64,
    "float16": T.FLOAT16,
    "float32": T.FLOAT,
    "float64": T.DOUBLE,
}


OPENVINO_ECHOED = tuple(name for name in ECHOED if name != "float64")
"""Triton's openvino backend does not take FP64."""


def echo(types: Iterable[str] = ECHOED) -> onnx.ModelProto:
    """Returns an input of each type, `in_<type>`, reversed along its first dimension."""
    reversal = [h.make_tensor(n, T.INT64, [1], [v]) for n, v in _REVERSAL.items()]
    return model(
        [h.make_node("Slice", [f"in_{name}", *_REVERSAL], [f"out_{name}"]) for name in types],
        [(f"in_{name}", ECHOED[name], ["n"]) for name in types],
        [(f"out_{name}", ECHOED[name], ["n"]) for name in types],
        reversal,
    )


_REVERSAL = {"starts": -1, "ends": -(2**62), "axes": 0, "steps": -1}


def optional() -> onnx.ModelProto:
    """y = x + bias, where `bias` is 100 if the request leaves it out."""
    return model(
        [h.make_node("Add", ["x", "bias"], ["y"])],
        [("x", T.FLOAT, ["n"]), ("bias", T.FLOAT, [1])],
        [("y", T.FLOAT, ["n"])],
        [h.make_tensor("bias", T.FLOAT, [1], [100.0])],
    )


def scalars() -> onnx.ModelProto:
    """`total`: the sum of x, times `factor`; both scalars."""
    return model(
        [
            h.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            h.make_node("Mul", ["sum", "factor"], ["total"]),
        ],
        [("x", T.FLOAT, ["n"]), ("factor", T.FLOAT, [])],
        [("total", T.FLOAT, [])],
    )


def classifier() -> onnx.ModelProto:
    """`scores` of a [1, 4, 4] image for three classes: its mean, its top left pixel, and 0.5."""
    return model(
        [
            h.make_node("ReduceMean", ["image", "pixels"], ["mean"], keepdims=0),
            h.make_node("Reshape", ["mean", "column"], ["mean_column"]),
            h.make_node("Slice", ["image", "zeros", "ones", "hw"], ["corner"]),
            h.make_node("Reshape", ["corner", "column"], ["corner_column"]),
            h.make_node("Mul", ["mean_column", "zero"], ["nothing"]),
            h.make_node("Add", ["nothing", "half"], ["half_column"]),
            h.make_node(
                "Concat", ["mean_column", "corner_column", "half_column"], ["scores"], axis=1
            ),
        ],
        [("image", T.FLOAT, ["n", 1, 4, 4])],
        [("scores", T.FLOAT, ["n", 3])],
        [
            h.make_tensor("pixels", T.INT64, [3], [1, 2, 3]),
            h.make_tensor("column", T.INT64, [2], [-1, 1]),
            h.make_tensor("zeros", T.INT64, [2], [0, 0]),
            h.make_tensor("ones", T.INT64, [2], [1, 1]),
            h.make_tensor("hw", T.INT64, [2], [2, 3]),
            h.make_tensor("zero", T.FLOAT, [], [0.0]),
            h.make_tensor("half", T.FLOAT, [], [0.5]),
        ],
    )
