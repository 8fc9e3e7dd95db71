"""Well-known networks as ONNX graphs without weights, for counting work: shapes only, no data.

Each returns a model whose multiply-accumulates and parameters agree with what its authors publish;
`tests/unit/targets/test_roofline.py` checks that.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


class Net:
    """Grows a graph; every method returns the name of a tensor, channels are tracked in `width`."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.shapes: list[onnx.TensorProto] = []
        self.width = {"x": shape[1]}
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)

    def op(self, kind: str, *inputs: str, width: int | None = None, **attributes: object) -> str:
        """One node; `width` is the number of channels that it gives."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.width[name] = self.width.get(inputs[0], 0) if width is None else width
        return name

    def weights(self, *shape: int) -> str:
        """Weights of a shape, without data."""
        name = f"s{len(self.shapes)}"
        self.shapes.append(helper.make_tensor(name, TensorProto.INT64, [len(shape)], shape))
        return self.op("ConstantOfShape", name)

    def conv(self, x: str, out: int, k: int = 1, s: int = 1, act: str = "Relu", **more: int) -> str:
        """A convolution with bias, `same` padding and an activation."""
        group, dilation = more.get("group", 1), more.get("dilation", 1)
        pad = dilation * (k - 1) // 2
        w = self.weights(out, self.width[x] // group, k, k)
        y = self.op(
            "Conv", x, w, self.weights(out), width=out, kernel_shape=[k, k], strides=[s, s],
            pads=[pad] * 4, group=group, dilations=[dilation] * 2,
        )  # fmt: skip
        if act == "SiLU":
            return self.op("Mul", y, self.op("Sigmoid", y))
        return self.op(act, y) if act else y

    def concat(self, *parts: str) -> str:
        """Tensors one after the other along their channels."""
        return self.op("Concat", *parts, width=sum(self.width[p] for p in parts), axis=1)

    def resize(self, x: str, factor: float) -> str:
        """Nearest-neighbour scaling of height and width."""
        name = f"f{len(self.shapes)}"
        self.shapes.append(helper.make_tensor(name, TensorProto.FLOAT, [4], [1, 1, factor, factor]))
        return self.op("Resize", x, "", name, mode="nearest")

    def dense(self, x: str, inner: int, out: int) -> str:
        """A matrix product with a bias."""
        return self.op("Add", self.op("MatMul", x, self.weights(inner, out)), self.weights(out))

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The graph as a model."""
        values = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for value in values:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "net", [self.input], values, self.shapes)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _bottleneck(net: Net, x: str, mid: int, stride: int, dilation: int = 1) -> str:
    y = net.conv(net.conv(x, mid), mid, 3, stride, dilation=dilation)
    y = net.conv(y, 4 * mid, act="")
    if net.width[x] != 4 * mid or stride > 1:
        x = net.conv(x, 4 * mid, s=stride, act="")
    return net.op("Relu", net.op("Add", y, x))


def _resnet50(net: Net, dilated: bool = False) -> str:
    y = net.op(
        "MaxPool", net.conv("x", 64, 7, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )
    for stage, (mid, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            late = dilated and stage > 1
            stride = 2 if block == 0 and stage and not late else 1
            dilation = 2 ** (stage - 1 - (block == 0)) if late else 1
            y = _bottleneck(net, y, mid, stride, dilation)
    return y


def resnet50(batch: int = 1) -> onnx.ModelProto:
    """ResNet-50 v1.5 at 224 x 224: 4.09 GMAC, 25.6 M parameters (torchvision)."""
    net = Net(batch, 3, 224, 224)
    y = net.op("Flatten", net.op("GlobalAveragePool", _resnet50(net)))
    return net.model(net.dense(y, 2048, 1000))


def deeplabv3(batch: int = 1) -> onnx.ModelProto:
    """DeepLab v3 with ResNet-50 at 512 x 512, without the auxiliary head (torchvision, at 520)."""
    net = Net(batch, 3, 512, 512)
    y = _resnet50(net, dilated=True)
    pooled = net.conv(net.op("GlobalAveragePool", y), 256)
    branches = [net.conv(y, 256), *(net.conv(y, 256, 3, dilation=d) for d in (12, 24, 36))]
    y = net.conv(net.concat(*branches, net.resize(pooled, 64)), 256)
    return net.model(net.resize(net.conv(net.conv(y, 256, 3), 21, act=""), 8))


def efficientnet_b0(batch: int = 1) -> onnx.ModelProto:
    """EfficientNet-B0 at 224 x 224: 0.39 GMAC, 5.3 M parameters (its paper, table 2)."""
    net = Net(batch, 3, 224, 224)
    y = net.conv("x", 32, 3, 2, "SiLU")
    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
              (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    for expand, out, blocks, first, k in stages:
        for block in range(blocks):
            x, narrow = y, net.width[y]
            stride = first if block == 0 else 1
            if expand > 1:
                y = net.conv(y, narrow * expand, act="SiLU")
            y = net.conv(y, net.width[y], k, stride, "SiLU", group=net.width[y])
            squeezed = net.conv(net.op("GlobalAveragePool", y), narrow // 4, act="SiLU")
            y = net.op("Mul", y, net.conv(squeezed, net.width[y], act="Sigmoid"))
            y = net.conv(y, out, act="")
            if stride == 1 and narrow == out:
                y = net.op("Add", y, x)
    y = net.conv(y, 1280, act="SiLU")
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return net.model(net.dense(y, 1280, 1000))


def _c2f(net: Net, x: str, out: int, blocks: int, shortcut: bool) -> str:
    half = out // 2
    # The split is a view: two convolutions of half the width do the same work.
    parts = [net.conv(x, half, act="SiLU"), net.conv(x, half, act="SiLU")]
    for _ in range(blocks):
        y = net.conv(net.conv(parts[-1], half, 3, act="SiLU"), half, 3, act="SiLU")
        parts.append(net.op("Add", y, parts[-1]) if shortcut else y)
    return net.conv(net.concat(*parts), out, act="SiLU")


def yolov8n(batch: int = 1) -> onnx.ModelProto:
    """YOLOv8n at 640 x 640: 4.35 GMAC (8.7 GFLOPs), 3.2 M parameters (Ultralytics)."""
    net = Net(batch, 3, 640, 640)
    y = net.conv(net.conv("x", 16, 3, 2, "SiLU"), 32, 3, 2, "SiLU")
    y = _c2f(net, y, 32, 1, True)
    p3 = _c2f(net, net.conv(y, 64, 3, 2, "SiLU"), 64, 2, True)
    p4 = _c2f(net, net.conv(p3, 128, 3, 2, "SiLU"), 128, 2, True)
    y = _c2f(net, net.conv(p4, 256, 3, 2, "SiLU"), 256, 1, True)
    pools = [net.conv(y, 128, act="SiLU")]
    for _ in range(3):
        pools.append(net.op("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2] * 4))
    p5 = net.conv(net.concat(*pools), 256, act="SiLU")
    n4 = _c2f(net, net.concat(net.resize(p5, 2), p4), 128, 1, False)
    n3 = _c2f(net, net.concat(net.resize(n4, 2), p3), 64, 1, False)
    m4 = _c2f(net, net.concat(net.conv(n3, 64, 3, 2, "SiLU"), n4), 128, 1, False)
    m5 = _c2f(net, net.concat(net.conv(m4, 128, 3, 2, "SiLU"), p5), 256, 1, False)
    heads = []
    for level in (n3, m4, m5):
        box = net.conv(net.conv(level, 64, 3, act="SiLU"), 64, 3, act="SiLU")
        kind = net.conv(net.conv(level, 80, 3, act="SiLU"), 80, 3, act="SiLU")
        heads.append(net.concat(net.conv(box, 64, act=""), net.conv(kind, 80, act="")))
    return net.model(*heads)


def bert_base(batch: int = 4, tokens: int = 1024) -> onnx.ModelProto:
    """The encoder of BERT-base: 85 M parameters in 12 layers of width 768."""
    net = Net(batch, tokens, 768)
    x = "x"
    for _ in range(12):
        q, k, v = (_heads(net, net.dense(x, 768, 768), batch, tokens, p) for p in _ORDERS)
        mixed = net.op("MatMul", net.op("Softmax", net.op("MatMul", q, k), axis=-1), v)
        y = _reshape(net, net.op("Transpose", mixed, perm=[0, 2, 1, 3]), batch, tokens, 768)
        x = _normal(net, net.op("Add", net.dense(y, 768, 768), x))
        y = net.op("Erf", net.dense(x, 768, 3072))
        x = _normal(net, net.op("Add", net.dense(y, 3072, 768), x))
    return net.model(x)


_ORDERS = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])


def _heads(net: Net, x: str, batch: int, tokens: int, order: list[int]) -> str:
    return net.op("Transpose", _reshape(net, x, batch, tokens, 12, 64), perm=order)


def _reshape(net: Net, x: str, *shape: int) -> str:
    name = f"s{len(net.shapes)}"
    net.shapes.append(helper.make_tensor(name, TensorProto.INT64, [len(shape)], shape))
    return net.op("Reshape", x, name)


def _normal(net: Net, x: str) -> str:
    return net.op("LayerNormalization", x, net.weights(768), net.weights(768))


def save(model: onnx.ModelProto, folder: Path, name: str) -> Path:
    """Write the graph; its weights are shapes, so the file is small."""
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    return path
