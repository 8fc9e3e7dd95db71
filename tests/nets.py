"""The families of small nets that edge devices run, one builder each, with seeded weights."""

from __future__ import annotations

import numpy as np
import onnx
from qdq_models import Net


def plain_cnn() -> onnx.ModelProto:
    """Conv, MaxPool with and without padding, Flatten of a map larger than 1x1, Gemm."""
    net = Net("N", 3, 12, 10)
    x = net.op("Relu", net.conv("x", 3, 8, 3, 3, pads=[1, 1, 1, 1]))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.op("Relu", net.conv(x, 8, 12, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = net.op("Flatten", x)
    return net.model(net.op("Gemm", x, net.weight(5, 108), net.weight(5), transB=1))


def mobilenet_v1() -> onnx.ModelProto:
    """Depthwise separable blocks with Relu6, global average pool, 1x1 classifier, Softmax."""
    net = Net("N", 3, 16, 16, seed=1)
    six = [net.constant(np.float32(0)), net.constant(np.float32(6))]
    x = net.conv("x", 3, 8, 3, 3, strides=[2, 2], pads=[0, 0, 1, 1])
    x = net.op("Clip", x, *six)
    for cin, cout, stride in ((8, 16, 1), (16, 16, 2)):
        x = net.conv(x, cin, cin, 3, 3, group=cin, strides=[stride] * 2, pads=[1, 1, 1, 1])
        x = net.op("Clip", x, *six)
        x = net.op("Clip", net.conv(x, cin, cout, 1, 1), *six)
    x = net.conv(net.op("GlobalAveragePool", x), 16, 6, 1, 1)
    x = net.op("Reshape", x, net.constant(np.array([0, -1], np.int64)))
    return net.model(net.op("Softmax", x, axis=-1))


def mobilenet_v3() -> onnx.ModelProto:
    """HardSwish, squeeze-and-excite with HardSigmoid, residual, ReduceMean."""
    net = Net(1, 3, 16, 16, seed=2)
    x = net.op("HardSwish", net.conv("x", 3, 8, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    y = net.op("HardSwish", net.conv(x, 8, 16, 1, 1))
    y = net.op("HardSwish", net.conv(y, 16, 16, 5, 5, group=16, pads=[2, 2, 2, 2]))
    s = net.op("Relu", net.conv(net.op("GlobalAveragePool", y), 16, 4, 1, 1))
    s = net.op("HardSigmoid", net.conv(s, 4, 16, 1, 1), alpha=1 / 6, beta=0.5)
    y = net.conv(net.op("Mul", y, s), 16, 8, 1, 1)
    x = net.op("Add", x, y)
    x = net.op("ReduceMean", x, net.constant(np.array([2, 3], np.int64)), keepdims=0)
    x = net.op("HardSwish", net.op("Gemm", x, net.weight(16, 8), net.weight(16), transB=1))
    return net.model(net.op("Gemm", x, net.weight(16, 4), net.weight(4)))


def residual() -> onnx.ModelProto:
    """Two residual blocks, the second with a strided shortcut; average pool; Relu behind Add."""
    net = Net("N", 1, 16, 16, seed=3)
    x = net.op("Relu", net.conv("x", 1, 8, 7, 7, strides=[2, 2], pads=[3, 3, 3, 3]))
    for cin, cout, stride in ((8, 8, 1), (8, 12, 2)):
        y = net.conv(x, cin, cout, 3, 3, strides=[stride] * 2, pads=[1, 1, 1, 1])
        y = net.conv(net.op("Relu", y), cout, cout, 3, 3, pads=[1, 1, 1, 1])
        skip = x if stride == 1 else net.conv(x, cin, cout, 1, 1, strides=[2, 2])
        x = net.op("Relu", net.op("Add", y, skip))
    x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Flatten", x)
    return net.model(net.op("Gemm", x, net.weight(3, 48), net.weight(3), transB=1))


def conv1d() -> onnx.ModelProto:
    """Convolutions and pools over time, a flattened map, LeakyRelu."""
    net = Net("N", 3, 64, seed=4)
    x = net.op("Relu", net.conv("x", 3, 8, 9, strides=[2], pads=[4, 4]))
    x = net.op("MaxPool", x, kernel_shape=[2], strides=[2])
    x = net.op("LeakyRelu", net.conv(x, 8, 16, 5, dilations=[2], pads=[4, 4]), alpha=0.1)
    x = net.op("Mul", x, net.weight(16, 1))
    x = net.op("Flatten", net.op("AveragePool", x, kernel_shape=[4], strides=[4]))
    return net.model(net.op("Gemm", x, net.weight(4, 64), net.weight(4), transB=1))


def autoencoder_mlp() -> onnx.ModelProto:
    """MatMul and Add, Tanh in the middle, Sigmoid at the end."""
    net = Net("N", 20, seed=5)
    x = "x"
    for cin, cout, kind in (
        (20, 12, "Relu"),
        (12, 4, "Tanh"),
        (4, 12, "Relu"),
        (12, 20, "Sigmoid"),
    ):
        x = net.op("MatMul", x, net.weight(cin, cout, scale=cin**-0.5))
        x = net.op(kind, net.op("Add", x, net.weight(cout, scale=0.1)))
    return net.model(x)


def autoencoder_conv() -> onnx.ModelProto:
    """Strided convolutions down, transposed ones up, with padding that TFLite cuts off."""
    net = Net(1, 1, 8, 8, seed=6)
    x = net.op("Relu", net.conv("x", 1, 8, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = net.op("Relu", net.conv(x, 8, 8, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = net.op("ConvTranspose", x, net.weight(8, 8, 2, 2), net.weight(8), strides=[2, 2])
    more = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    x = net.op("ConvTranspose", net.op("Relu", x), net.weight(8, 1, 3, 3), net.weight(1), **more)
    return net.model(net.op("Sigmoid", x))


def detector() -> onnx.ModelProto:
    """Two scales: SiLU, Split, Resize and Concat; a box head and a class head for each."""
    net = Net(1, 3, 16, 16, seed=7)

    def silu(x: str) -> str:
        result: str = net.op("Mul", x, net.op("Sigmoid", x))
        return result

    fine = silu(net.conv("x", 3, 8, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    left, right = net.op("Split", fine, outputs=2, axis=1, num_outputs=2)
    fine = net.op("Concat", left, silu(net.conv(right, 4, 4, 3, 3, pads=[1] * 4)), axis=1)
    coarse = silu(net.conv(fine, 8, 16, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]))
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    how = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    fine = net.op("Concat", fine, net.op("Resize", coarse, "", scales, **how), axis=1)
    heads = []
    for x, channels in ((fine, 24), (coarse, 16)):
        head = net.op("Transpose", net.conv(x, channels, 6, 1, 1), perm=[0, 2, 3, 1])
        heads.append(net.op("Reshape", head, net.constant(np.array([1, -1, 6], np.int64))))
    joined = net.op("Concat", *heads, axis=1)
    cuts = [net.constant(np.array(v, np.int64)) for v in ([0], [4], [6], [2])]
    boxes = net.op("Slice", joined, cuts[0], cuts[1], cuts[3])
    scores = net.op("Sigmoid", net.op("Slice", joined, cuts[1], cuts[2], cuts[3]))
    return net.model(boxes, scores)


def channels_first_head() -> onnx.ModelProto:
    """A head that flattens maps without a Gemm behind, so ONNX's order must be restored."""
    net = Net(1, 2, 6, 5, seed=8)
    x = net.conv("x", 2, 4, 3, 3)
    x = net.op("Reshape", x, net.constant(np.array([1, 4, -1], np.int64)))
    x = net.op("Softmax", x, axis=1)
    return net.model(net.op("Squeeze", x, net.constant(np.array([0], np.int64))))


def arithmetic() -> onnx.ModelProto:
    """Preprocessing in the graph and every simple operator left."""
    net = Net(1, 3, 8, 8, seed=9)
    mean = net.constant(np.array([0.1, -0.2, 0.3], np.float32).reshape(3, 1, 1))
    x = net.op("Div", net.op("Sub", "x", mean), net.constant(np.float32(1.7)))
    pads = net.constant(np.array([0, 0, 2, 1, 0, 0, 1, 2], np.int64))
    x = net.op(
        "PRelu", net.conv(net.op("Pad", x, pads), 3, 4, 3, 3), net.weight(4, 1, 1, scale=0.3)
    )
    limits = [net.constant(np.float32(-0.5)), net.constant(np.float32(1.25))]
    x = net.op("Clip", x, *limits)
    size = net.constant(np.array([1, 4, 18, 18], np.int64))
    x = net.op(
        "Resize", x, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    return net.model(net.op("GlobalMaxPool", x), net.op("Relu", net.conv(x, 4, 2, 1, 1)))


ALL = {
    build.__name__: build
    for build in (
        plain_cnn,
        mobilenet_v1,
        mobilenet_v3,
        residual,
        conv1d,
        autoencoder_mlp,
        autoencoder_conv,
        detector,
        channels_first_head,
        arithmetic,
    )
}
