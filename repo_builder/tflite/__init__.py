"""Writes explicit-QDQ ONNX models as int8 TFLite, with the same scales and zero points.

    written = write(onnx.load("model.onnx"))
    Path("model.tflite").write_bytes(written.data)

No second quantization takes place: what ONNX Runtime computes in int8, TFLite computes too, apart
from rounding. The model should be quantized with int8 (or uint8) activations, symmetric int8
weights, and every operator quantized. Feature maps are stored channels-last, as TFLite wants them;
a `Port` converts arrays from and to ONNX's shapes.

`write` below is the path: `qdq` reads the graph, `elementwise`, `shaping` and `windows` write its
operators, `layout` decides where feature maps are turned, `flatbuffer` packs the file. `arena` and
`runner` look at what came out. Quantizing a model and compiling for an NPU belong to `steps/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repo_builder.tflite import elementwise, shaping, windows
from repo_builder.tflite.layout import CHANNELS_LAST, Value, plain
from repo_builder.tflite.ports import Port, Ports
from repo_builder.tflite.qdq import Activation, Graph, Op, read
from repo_builder.tflite.writer import View, Writer

if TYPE_CHECKING:
    import onnx

_HANDLERS: dict[str, Callable[[Writer, Op], None]] = {
    "Add": elementwise.arithmetic,
    "AveragePool": windows.pool,
    "Clip": elementwise.clip,
    "Concat": shaping.concat,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "Div": elementwise.arithmetic,
    "Dropout": shaping.reshape,
    "Flatten": shaping.reshape,
    "Gemm": windows.product,
    "GlobalAveragePool": shaping.mean,
    "GlobalMaxPool": shaping.global_max,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.unary,
    "Identity": shaping.reshape,
    "LeakyRelu": elementwise.unary,
    "MatMul": windows.product,
    "MaxPool": windows.pool,
    "Mul": elementwise.arithmetic,
    "PRelu": elementwise.prelu,
    "Pad": shaping.pad,
    "ReduceMean": shaping.mean,
    "Relu": elementwise.unary,
    "Requantize": shaping.requantize,
    "Reshape": shaping.reshape,
    "Resize": shaping.resize,
    "Sigmoid": elementwise.unary,
    "Slice": shaping.slice_,
    "Softmax": shaping.softmax,
    "Split": shaping.split,
    "Squeeze": shaping.reshape,
    "Sub": elementwise.arithmetic,
    "Tanh": elementwise.unary,
    "Transpose": shaping.transpose,
    "Unsqueeze": shaping.reshape,
}

OPS: tuple[str, ...] = tuple(op for op in _HANDLERS if op != "Requantize")
"""The ONNX operators that can be written; a model for this toolchain quantizes all of them."""

_KERNEL_RANGES = {
    "Sigmoid": (0.0, 255 / 256),
    "Softmax": (0.0, 255 / 256),
    "Tanh": (-1.0, 127 / 128),
}

_IMAGE_OPS = ("AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "MaxPool", "Resize")
_ELEMENTWISE = ("Add", "Clip", "Div", "Mul", "PRelu", "Pad", "Relu", "Requantize", "Sub")


@dataclass(frozen=True)
class Written:
    """A TFLite file, its inputs and outputs, and the operators it uses (`CONV_2D`)."""

    data: bytes
    ports: Ports
    ops: tuple[str, ...]


def output_ranges(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """Tensors of a float model whose range TFLite's integer kernels fix: name -> (least, largest).

    A quantizer that uses them instead of what calibration saw spares a second rounding.
    """
    return {
        node.output[0]: _KERNEL_RANGES[node.op_type]
        for node in model.graph.node
        if node.op_type in _KERNEL_RANGES
    }


def write(model: onnx.ModelProto) -> Written:
    """Write a QDQ model as int8 TFLite; a dynamic batch becomes 1.

    Raises ModelError with every kind of operator that cannot be written and a way out.
    """
    graph = read(model, OPS)
    w = Writer()
    inputs = [w.add(port, _input_view(graph, port)) for port in graph.inputs]
    for op in graph.ops:
        _HANDLERS[op.type](w, op)
    outputs = [_delivered(w, w.values[port]) for port in graph.outputs]
    names_in = [port.name for port in graph.inputs]
    names_out = [port.name for port in model.graph.output]
    return Written(
        w.builder.pack(
            [value.index for value in inputs],
            [value.index for value in outputs],
            "int8, written by repo-builder from a QDQ ONNX model",
        ),
        Ports(
            tuple(_port(name, value) for name, value in zip(names_in, inputs, strict=True)),
            tuple(_port(name, value) for name, value in zip(names_out, outputs, strict=True)),
        ),
        w.builder.codes,
    )


def _input_view(graph: Graph, port: Activation) -> View:
    """Channels-last where the input reaches an operator on feature maps before any other."""
    rank = len(port.shape)
    reached = {port}
    for op in graph.ops:
        if rank not in (3, 4) or reached.isdisjoint(op.inputs):
            continue
        if op.type in _ELEMENTWISE:
            reached.update(op.outputs)
        elif op.type in _IMAGE_OPS:
            return View(windows.image_shape(op, port.shape), CHANNELS_LAST)
        else:
            break
    return View(port.shape, plain(rank))


def _delivered(w: Writer, value: Value) -> Value:
    """An output: feature maps as they lie, all else in ONNX's order."""
    lies_well = value.order == CHANNELS_LAST and len(value.shape) in (3, 4)
    return value if lies_well else w.layouts.stored(value, plain(len(value.shape)))


def _port(name: str, value: Value) -> Port:
    return Port(
        name,
        value.shape,
        value.dims,
        value.scale,
        value.zero_point,
        value.virtual,
        value.order,
    )
