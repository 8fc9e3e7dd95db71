"""Small models and a way to run one step on them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from repo_builder import steps

EXAMPLES = Path(__file__).parents[3] / "model_specs"


class Bench:
    """Runs steps in folders below a scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.count = 0

    def folder(self) -> Path:
        self.count += 1
        made = self.scratch / str(self.count)
        made.mkdir()
        return made

    def run(self, step: str, /, *, params: dict[str, Any] | None = None, **inputs: Path) -> Any:
        """The folder that the step wrote and its facts."""
        module, out = steps.load(step), self.folder()
        return out, module.run(module.Inputs(**inputs), module.Params(**(params or {})), out)

    def model(self, model: onnx.ModelProto | bytes) -> Path:
        made = self.folder()
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (made / "model.onnx").write_bytes(data)
        return made

    def data(self, name: str, **arrays: Any) -> Path:
        made = self.folder()
        np.savez(made / f"{name}.npz", **arrays)
        return made

    def example(self, name: str, file: str) -> Path:
        """A folder with a file of an example; its model becomes `model.onnx`."""
        made = self.folder()
        target = "model.onnx" if file.endswith(".onnx") else file
        shutil.copy(EXAMPLES / name / file, made / target)
        return made


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str]],
    outputs: dict[str, Sequence[int | str]],
    weights: dict[str, Any] | None = None,
    *,
    opset: int = 17,
    ir: int = 8,
) -> onnx.ModelProto:
    """A model in FP32 from its parts."""

    def values(shapes: dict[str, Sequence[int | str]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    stored = [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", values(inputs), values(outputs), stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def relu(opset: int = 17, ir: int = 8, op: str = "Relu", domain: str = "") -> onnx.ModelProto:
    """One operator on [N, 3]."""
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    model = make([node], {"x": ["N", 3]}, {"y": ["N", 3]}, opset=opset, ir=ir)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def cnn(seed: int = 0, *, mean: str = "ReduceMean") -> onnx.ModelProto:
    """[N, 3, 16, 16] -> two convolutions with batch norm -> mean -> dense -> decode -> [N, 5]."""
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        fan = np.prod(shape[1:])
        return (random.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)

    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "s", "b", "m", "v"], ["n1"], "norm1"),
        helper.make_node("Relu", ["n1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"], "dense"),
        helper.make_node("Mul", ["g", "scale"], ["y"], "decode"),
    ]
    if mean == "ReduceMean":
        pool = [helper.make_node("ReduceMean", ["r2"], ["f"], "mean", axes=[2, 3], keepdims=0)]
    else:
        pool = [
            helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["f"], "flat"),
        ]
    nodes[5:5] = pool
    stored = {
        "w1": weights(8, 3, 3, 3),
        "s": ones * 1.5,
        "b": zeros + 0.1,
        "m": zeros,
        "v": ones,
        "w2": weights(8, 8, 3, 3),
        "w3": weights(8, 5),
        "b3": np.zeros(5, np.float32),
        "scale": np.array([640, 1, 1, 1, 1], np.float32),
    }
    return make(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 5]}, stored)
