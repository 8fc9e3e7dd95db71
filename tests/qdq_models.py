"""Small float models written node by node, and their explicit-QDQ form by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from repo_builder.tflite import OPS, Written, output_ranges
from repo_builder.tflite.runner import Runner


class Net:
    """Grows a model one operator at a time; weights come from a fixed seed."""

    def __init__(self, *shape: int | str, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, scale: float | None = None) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        spread = scale or (2 / fan_in) ** 0.5
        return self.constant((self.random.standard_normal(shape) * spread).astype(np.float32))

    def constant(self, values: np.ndarray[Any, Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x: str, cin: int, cout: int, *kernel: int, group: int = 1, **more: Any) -> str:
        weight = self.weight(cout, cin // group, *kernel)
        bias = self.weight(cout, scale=0.1)
        name: str = self.op("Conv", x, weight, bias, group=group, kernel_shape=kernel, **more)
        return name

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 9
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
        return model


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, rows: list[np.ndarray[Any, Any]]) -> None:
        self.name = name
        self.rows: Iterator[np.ndarray[Any, Any]] = iter(rows)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        row = next(self.rows, None)
        return None if row is None else {self.name: row.astype(np.float32)}


def samples(model: onnx.ModelProto, count: int = 24) -> list[np.ndarray[Any, Any]]:
    dims = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    random = np.random.default_rng(7)
    return [random.standard_normal(dims).astype(np.float32) for _ in range(count)]


def quantize(
    model: onnx.ModelProto,
    folder: Path,
    rows: list[np.ndarray[Any, Any]] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    """int8 activations with zero points, symmetric int8 weights, every operator of `OPS`."""
    onnx.save(model, folder / "float.onnx")
    ranges = {
        name: [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
        for name, (low, high) in output_ranges(model).items()
    }
    options: dict[str, Any] = {
        "quant_format": quantization.QuantFormat.QDQ,
        "activation_type": quantization.QuantType.QInt8,
        "weight_type": quantization.QuantType.QInt8,
        "per_channel": True,
        "op_types_to_quantize": list(OPS),
        "extra_options": {
            "ActivationSymmetric": False,
            "WeightSymmetric": True,
            "TensorQuantOverrides": ranges,
        },
    }
    reader = _Samples(model.graph.input[0].name, samples(model) if rows is None else rows)
    paths = folder / "float.onnx", folder / "qdq.onnx"
    quantization.quantize_static(*paths, reader, **{**options, **more})
    return onnx.load(folder / "qdq.onnx")


def run_onnx(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[np.ndarray[Any, Any]] = session.run(None, {session.get_inputs()[0].name: x})
    return outputs


def steps_apart(
    written: Written, model: onnx.ModelProto, rows: list[np.ndarray[Any, Any]], *, reference: bool
) -> np.ndarray[Any, Any]:
    """How far each output value is from ONNX Runtime's, in whole steps of its scale."""
    runner = Runner(written.data, written.ports, reference=reference)
    steps = []
    for row in rows:
        ours = runner.run({written.ports.inputs[0].name: row})
        for port, theirs in zip(written.ports.outputs, run_onnx(model, row), strict=True):
            assert ours[port.name].shape == theirs.shape
            steps.append(np.rint(np.abs(ours[port.name] - theirs) / port.scale).ravel())
    return np.concatenate(steps)
