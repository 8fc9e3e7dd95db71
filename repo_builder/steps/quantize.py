"""`quantize`: static int8 as explicit QuantizeLinear / DequantizeLinear pairs (QDQ)."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from repo_builder import tflite
from repo_builder.base.errors import DataError, StepError
from repo_builder.introspect import quantized as quantized_source
from repo_builder.spec.types import CalibrationMethod
from repo_builder.steps import (
    _already,
    _balance,
    _bodies,
    _calibrate,
    _canonical,
    _data,
    _keep,
    _narrow,
    _observe,
    _onnx,
    _prepare,
    _quantizable,
    _runtimes,
    _same,
)
from repo_builder.steps._failures import explained
from repo_builder.targets.types import Scheme

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FILE = _calibrate.FILE
WAY_OUT = "write `optimize: {precision: fp32}`, or fp16 where the target has no fp32"
NO_WAY_OUT = "this target has no other precision: use target `cpu`"

FUSED = (2.0, 0.02)
"""How much further from fp32 an int8 model may be with ONNX Runtime's fusions than as written: this
factor, and this much of the norm. Kernels in integers round otherwise, by a step here and there."""


@dataclass(frozen=True)
class Params:
    """`scheme` is the target's: `u8s8` (activations unsigned, with a zero point), or `s8s8`: signed
    and symmetric, with the pairs that TensorRT wants.

    `whole` is for TFLite, which runs int8 only: nothing stays in floating point, not even what
    follows the last heavy operator, and ranges that TFLite's kernels fix replace those seen.

    `weight_bits` 7 is for processors that may lack VNNI: their products of unsigned and signed
    bytes are added in pairs in 16 bits, which 8 bits overflow (saturate) and 7 never do.
    The rest is `repo_builder.spec.types.Quantization`; `samples` rows are used, from the start.
    """

    scheme: Scheme
    samples: int
    method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    whole: bool = False
    weight_bits: Literal[7, 8] = 8


@dataclass(frozen=True)
class Inputs:
    """`model`: a model in fp32. `calibration`: a folder with `calibration.npz`.

    A model that is quantized already needs none. `keep`: what `sensitivity` wrote, for mixed
    precision.
    """

    model: Path
    calibration: Path | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Operators with int8 inputs and those without, by type; ranges of the activations.

    `left` are nodes that int8 would ruin or that `keep` names, and why; `left_out` are rewrites
    that changed answers, and how. `error` is the relative error to fp32 on the first calibration
    rows. `form` is that of a source that was quantized already and is passed on with its own
    scales, else "". `balanced` are operators that read channels balanced before (see `_balance`),
    and how uneven those were.
    """

    quantized: Mapping[str, int]
    floating: Mapping[str, int]
    ranges: Mapping[str, tuple[float, float]]
    left: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    error: float = 0.0
    form: str = ""
    balanced: Mapping[str, float] = field(default_factory=dict)


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write the quantized `model.onnx`.

    DataError: the calibration data is missing or does not fit. ModelError: `exclude` matches
    nothing, or nothing may stay in floating point and int8 would ruin a node. StepError: nothing to
    quantize, a tensor is not finite, the quantizer fails, or ONNX Runtime's fusions change what it
    wrote.
    """
    given = _onnx.load_graph(inputs.model)
    if (already := quantized_source.find(given)) is not None:
        return _passed_on(inputs.model, already, params, out)
    if inputs.calibration is None:
        raise DataError(_calibrate.NO_DATA)
    source = _runtimes.load(inputs.model, "onnxruntime")
    samples = _data.samples(inputs.calibration / FILE, source.inputs, params.samples)
    with explained(f"the model fails on {FILE}", "check the model and its data"):
        expected = _same.answers(inputs.model, samples)
    with explained("ONNX Runtime cannot optimize the model", WAY_OUT):
        model = _onnx.optimized(inputs.model)
    model, left_out = _prepare.prepare(model, expected, samples)
    keep = _keep.read(inputs.keep)
    facts = _made(given, model, expected, samples, params, keep, out)
    if facts.error > _balance.NEAR:
        even, uneven = _balance.balanced(model, expected, samples)
        if even is not None:
            with tempfile.TemporaryDirectory() as scratch:
                balanced = _made(given, even, expected, samples, params, keep, Path(scratch))
                if balanced.error < _balance.WORTH * facts.error:
                    _onnx.save(_onnx.load(Path(scratch)), out)
                    facts = replace(balanced, balanced=uneven)
    return replace(facts, left_out=left_out)


def _made(
    given: ModelProto,
    model: ModelProto,
    expected: _same.Answers,
    samples: _data.Samples,
    params: Params,
    keep: _keep.Keep,
    out: Path,
) -> Facts:
    """Write the int8 form of a prepared model. The errors are those of `run`."""
    nodes = _quantizable.chosen(model, params.exclude, params.whole)
    seen = _observe.watch(model, nodes, samples)
    nodes, left = _quantizable.kept(model, nodes, seen, params.whole)
    nodes = [node for node in nodes if node.name not in keep.nodes]
    left |= keep.nodes
    if not any(node.op_type in _quantizable.HEAVY for node in nodes):
        raise StepError(_nothing(model, left, NO_WAY_OUT if params.whole else WAY_OUT))
    symmetric = params.scheme == "s8s8"
    around = {name for node in nodes for name in (*node.input, *node.output)}
    ranges = {
        name: _calibrate.choose(histogram, params.method, params.percentile, symmetric)
        for name, histogram in seen.items()
        if name in around
    }
    if params.whole:
        fixed = tflite.output_ranges(model)
        ranges.update({name: _calibrate.Range(*fixed[name]) for name in fixed.keys() & ranges})
    chosen = {node.name for node in nodes}
    with explained("the quantizer failed", WAY_OUT):
        quantized = _quantize(model, nodes, ranges, params)
        _narrow.store(
            quantized, keep.narrow, per_channel=params.per_channel, bits=params.weight_bits
        )
    _onnx.unname_dimensions(given, quantized)
    _onnx.require_same_interface(given, quantized, "the quantizer", WAY_OUT)
    in_int8, floating = _count(quantized, chosen)
    _onnx.save(quantized, out)
    error = _proven(out, expected, samples)
    found = {name: (r.low, r.high) for name, r in sorted(ranges.items())}
    return Facts(in_int8, floating, found, left, error=error)


def _passed_on(
    folder: Path, already: quantized_source.Quantized, params: Params, out: Path
) -> Facts:
    """Write a model that is quantized already as it is: its scales were chosen with care.

    ModelError, in one sentence: the target cannot take them.
    """
    _already.require(already, params.scheme, params.whole)
    model = _onnx.load(folder)
    if params.whole:
        _already.require_whole(model, already)
    if params.weight_bits == 7:
        _already.shift_weights(model)
    counted = _count(model, {node.name for node in model.graph.node})
    _onnx.save(model, out)
    return Facts(*counted, {}, form=already.form)


def _nothing(model: ModelProto, left: Mapping[str, str], way_out: str) -> str:
    if left:
        some = "; ".join(f"'{name}' {why}" for name, why in list(left.items())[:3])
        return f"int8 would ruin every convolution and matrix product: {some}; {way_out}"
    what = "the model has no convolution or matrix product to quantize"
    for holder, body in _bodies.within(model.graph):
        if any(node.op_type in _quantizable.HEAVY for node in body.node):
            place = f"the body of {holder.op_type} node '{holder.name}'"
            return f"{what}: they are in {place}, where the quantizer leaves them; {way_out}"
    return f"{what}; {way_out}"


def _proven(out: Path, expected: _same.Answers, samples: _data.Samples) -> float:
    """The relative error of the model in `out` as it is served.

    StepError: it is further off than the file says when run node by node.
    """
    served, written = (
        _same.largest(expected, _same.answers(out, samples, optimize=optimize))
        for optimize in (True, False)
    )
    times, more = FUSED
    if served > times * written + more:
        raise StepError(
            f"the int8 model is off by {written:.3f} of its norm as written and by {served:.3f} as "
            "ONNX Runtime fuses it; write `optimize: {quantization: {per_channel: false}}`"
        )
    return float(f"{served:.3e}")


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
    roles = _quantizable.roles(model, nodes)
    _canonical.copies(model, roles)
    options: dict[str, Any] = {
        "WeightSymmetric": True,
        "TensorQuantOverrides": _overrides(model, nodes, roles, params.scheme),
        # Also what only moves an input's values, such as the Transpose that Keras puts first.
        "ForceQuantizeNoInputCheck": params.whole,
        "QDQKeepRemovableActivations": any(_cuts_off_zero(model, node) for node in nodes),
    }
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
        params.weight_bits == 7,
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


def _overrides(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    roles: Mapping[tuple[str, int], str],
    scheme: Scheme,
) -> dict[str, list[dict[str, Any]]]:
    """Stored tensors that are not quantized as weights along the usual axis."""
    from onnxruntime.quantization.quant_utils import QuantType

    stored = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    activation = {
        "quant_type": QuantType.QUInt8 if scheme == "u8s8" else QuantType.QInt8,
        "symmetric": scheme == "s8s8",
        "reduce_range": False,
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        for number, name in enumerate(node.input):
            role = roles.get((node.name, number), "")
            if name not in stored:
                continue
            if role == "activation":
                found[name] = [dict(activation)]
            elif role.startswith("weights") and _quantizable.axis(node, stored[name]) is None:
                found[name] = [{"quant_type": QuantType.QInt8, "symmetric": True}]
    return found


def _cuts_off_zero(model: ModelProto, node: NodeProto) -> bool:
    """Whether this is a Clip to a range without 0, which scales and zero points cannot say."""
    from onnx import numpy_helper

    if node.op_type != "Clip":
        return False
    stored = {t.name: t for t in model.graph.initializer if t.name in node.input[1:]}
    limits = [
        float(numpy_helper.to_array(stored[name])) if name in stored else 0.0
        for name in node.input[1:]
    ]
    low, high = (*limits, 0.0, 0.0)[:2]
    return low > 0 or high < 0


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
