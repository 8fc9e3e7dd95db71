"""`quantize`: static int8 as explicit QuantizeLinear / DequantizeLinear pairs (QDQ)."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder import tflite
from repo_builder.base.errors import StepError
from repo_builder.spec.types import CalibrationMethod
from repo_builder.steps import _calibrate, _data, _onnx, _quantizable, _runtimes
from repo_builder.steps._failures import explained
from repo_builder.targets.types import Scheme

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FILE = "calibration.npz"
WAY_OUT = "exclude the node it names, or write `optimize: {precision: fp32}`"


@dataclass(frozen=True)
class Params:
    """`scheme` is the target's: `u8s8` (activations unsigned, with a zero point), or `s8s8`: signed
    and symmetric, with the pairs that TensorRT wants.

    `whole` is for TFLite, which runs int8 only: nothing stays in floating point, not even what
    follows the last heavy operator, and ranges that TFLite's kernels fix replace those seen.
    The rest is `repo_builder.spec.types.Quantization`; `samples` rows are used, from the start.
    """

    scheme: Scheme
    samples: int
    method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Inputs:
    """`model`: a model in fp32. `calibration`: a folder with `calibration.npz`."""

    model: Path
    calibration: Path


@dataclass(frozen=True)
class Facts:
    """Operators with int8 inputs and those without, by type; ranges of the activations."""

    quantized: Mapping[str, int]
    floating: Mapping[str, int]
    ranges: Mapping[str, tuple[float, float]]


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write the quantized `model.onnx`.

    DataError: the calibration data does not fit. ModelError: `exclude` matches nothing. StepError:
    nothing to quantize, a tensor is not finite, or the quantizer fails.
    """
    with explained("ONNX Runtime cannot optimize the model", WAY_OUT):
        model = _quantizable.prepare(_onnx.optimized(inputs.model))
    nodes = _quantizable.chosen(model.graph.node, params.exclude, params.whole)
    if not any(node.op_type in _quantizable.HEAVY for node in nodes):
        raise StepError(
            "the model has no convolution or matrix product to quantize; "
            "write `optimize: {precision: fp32}`"
        )
    histograms = _watch(model, nodes, inputs.calibration / FILE, params.samples)
    symmetric = params.scheme == "s8s8"
    ranges = {
        name: _calibrate.choose(histogram, params.method, params.percentile, symmetric)
        for name, histogram in histograms.items()
    }
    if params.whole:
        fixed = tflite.output_ranges(model)
        ranges.update({name: _calibrate.Range(*fixed[name]) for name in fixed.keys() & ranges})
    with explained("the quantizer failed", WAY_OUT):
        quantized = _quantize(model, nodes, ranges, params)
    source = _onnx.load_graph(inputs.model)
    _onnx.require_same_interface(source, quantized, "the quantizer", WAY_OUT)
    in_int8, floating = _count(quantized, {node.name for node in nodes})
    _onnx.save(quantized, out)
    return Facts(in_int8, floating, {name: (r.low, r.high) for name, r in sorted(ranges.items())})


def _watch(
    model: ModelProto, nodes: Sequence[NodeProto], file: Path, count: int
) -> dict[str, _calibrate.Histogram]:
    """Run the calibration data and look at every tensor around the nodes to quantize."""
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    produced = {name for node in model.graph.node for name in node.output}
    around = {name for node in nodes for name in (*node.input, *node.output) if name} - stored
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    observed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in sorted((around & produced) - outputs)
    )
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(observed, Path(scratch))
        del observed
        runner = _runtimes.load(Path(scratch), "onnxruntime")
        samples = _data.samples(file, runner.inputs, count)

        def tensors(run: int) -> dict[str, _data.Array]:
            feed = samples.feed(run)
            return {**feed, **runner.run(feed)}

        with explained(f"the model fails on {FILE}", "check the model and its data"):
            return _calibrate.watch(sorted(around), map(tensors, range(samples.runs)))


def _quantize(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    ranges: Mapping[str, _calibrate.Range],
    params: Params,
) -> ModelProto:
    from onnxruntime.quantization.calibrate import CalibrationMethod as Method
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType

    # TensorRT wants zero points of 0, biases in floating point, and a pair of its own for every
    # reader and for every weight.
    for_tensorrt = {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True,
    }
    options: dict[str, Any] = {"WeightSymmetric": True}
    if params.scheme == "s8s8":
        options.update(for_tensorrt)
    data = {
        name: TensorData(lowest=np.float32(r.low), highest=np.float32(r.high))
        for name, r in ranges.items()
    }
    metadata = list(model.metadata_props)
    quantizer = QDQQuantizer(
        model,
        params.per_channel,
        False,  # reduce_range: 7 bits, for processors without VNNI
        QuantType.QInt8,
        QuantType.QUInt8 if params.scheme == "u8s8" else QuantType.QInt8,
        TensorsData(Method.MinMax, data),
        [node.name for node in nodes],
        [],
        sorted({node.op_type for node in nodes}),
        options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: ModelProto = quantizer.model.model
    del result.metadata_props[:]
    result.metadata_props.extend(metadata)
    return result


def _count(model: ModelProto, chosen: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
    made = {
        name
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    in_int8: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            rounded = node.name in chosen and made & set(node.input)
            (in_int8 if rounded else floating)[node.op_type] += 1
    return dict(sorted(in_int8.items())), dict(sorted(floating.items()))
