"""`compile-openvino`: OpenVINO IR, in fp32, with fp16 weights, or in int8 through NNCF."""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from repo_builder.base.errors import DataError, ModelError, SpecError
from repo_builder.introspect import quantized
from repo_builder.spec.types import Precision
from repo_builder.steps import (
    _balance,
    _calibrate,
    _data,
    _keep,
    _onnx,
    _openvino_int8,
    _openvino_narrow,
    _openvino_weights,
    _runtimes,
    _same,
)
from repo_builder.steps._failures import explained
from repo_builder.steps._level import Level
from repo_builder.targets.types import CalibrationMethod, Repair

_COUNTED = re.compile(r"([A-Za-z]+_\d+)(?=/|$)")
"""How names begin that OpenVINO gives from a counter of the process."""
_NOT_IN_PARTS = ("LSTMSequence", "GRUSequence", "RNNSequence", "TensorIterator", "Loop", "If")
"""Operators of which NNCF, whose bias correction runs parts of a model, makes none that runs."""


@dataclass(frozen=True)
class Params:
    """For int8 as in `quantize`, `weight_bits` too. NNCF has neither entropy nor mse calibration.

    `activations` other than int8: the model comes with packed weights from `quantize-weights`, and
    the CPU device may round what products read (`dynamic`), or not (`none`).
    `device` is OpenVINO's name of what shall run the model. Any but the CPU takes one shape only,
    so a varying first dimension becomes 1. `last_release` is the last OpenVINO that knows the
    device ("": the current one), `opset` the newest operation set which that one reads.
    """

    precision: Precision = "fp32"
    samples: int = 0
    method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    weight_bits: Literal[7, 8] = 8
    activations: Literal["int8", "dynamic", "none"] = "int8"
    symmetric: bool = False
    repair: tuple[Repair, ...] = ("equalize", "smooth", "bias")
    device: str = "CPU"
    last_release: str = ""
    opset: int | None = None


@dataclass(frozen=True)
class Inputs:
    """`model`: a model in fp32. `calibration`: a folder with `calibration.npz`, for int8.

    `keep`: what `sensitivity` wrote, for mixed precision.
    """

    model: Path
    calibration: Path | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Heavy operators with int8 weights or inputs, and those without, by type.

    `opset` is the newest operation set in the IR. `level` is None for the CPU, where `verify` runs
    the model in the runtime that serves it. `left` are operators that int8 would ruin or `keep`
    names, and why; `balanced` those that read channels balanced before, and how uneven: see
    `_balance`. `inputs` and `outputs` are the shapes of the IR where the device takes one only.
    """

    quantized: Mapping[str, int]
    floating: Mapping[str, int]
    opset: int
    level: Level | None
    left: Mapping[str, str] = field(default_factory=dict)
    balanced: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.xml` and `model.bin`; inputs and outputs keep their names and shapes.

    ModelError: OpenVINO, or the device where it is here, refuses the model. DataError: the
    calibration data does not fit. SpecError: a calibration method that NNCF lacks. StepError: NNCF
    fails.
    """
    import openvino as ov

    from repo_builder.steps import _openvino

    already = quantized.find(_onnx.load_graph(inputs.model))
    packed = params.precision == "int8" and params.activations != "int8"
    if already is not None and not packed:
        _refuse(already, params)
    model, names = _converted(inputs.model, params)
    left: Mapping[str, str] = {}
    uneven: Mapping[str, float] = {}
    if packed:
        _openvino_weights.let_round(model, dynamic=params.activations == "dynamic")
    elif already is not None:
        _openvino_int8.keep_dimensions(model)
    elif params.precision == "int8":
        model, left, uneven = _in_8_bits(model, inputs, params)
    _settle_names(model, names)
    with explained("OpenVINO cannot write the model", "see whether the disk is full"):
        ov.save_model(model, out / "model.xml", compress_to_fp16=params.precision == "fp16")
    opset = _openvino.newest_opset(model, params.opset, params.last_release)
    level = None
    if params.device != "CPU":
        level = _openvino.ask(out / "model.xml", params.device, params.last_release)
    shapes: tuple[Mapping[str, tuple[int | str, ...]], ...] = ({}, {})
    if params.device != "CPU":
        sides = (model.inputs, model.outputs)
        shapes = tuple(
            {t.name: t.shape for t in map(_runtimes.openvino_tensor, side)} for side in sides
        )
    return Facts(*_count(model), opset, level, left, uneven, *shapes)


def _converted(source: Path, params: Params) -> tuple[Any, set[str]]:
    """The model in OpenVINO's terms, and the names of the ONNX graph."""
    import openvino as ov

    from repo_builder.steps import _openvino

    with explained("OpenVINO cannot convert the model", "use target `cpu`", ModelError):
        model = ov.convert_model(source / _onnx.MODEL)
    names = _name_ports(model, source)
    if params.device != "CPU":
        _openvino.fix_shapes(model, params.device)
    return model, names


def _refuse(already: quantized.Quantized, params: Params) -> None:
    """ModelError where OpenVINO cannot take a model that is quantized already."""
    if already.form in ("QOperator", "dynamic"):
        raise ModelError(
            f"the model {already.what}, which OpenVINO cannot read; export it as QDQ, use target "
            "`cpu`, or give its floating-point source"
        )
    if params.precision == "fp16":
        raise ModelError(
            f"the model {already.what}; write `optimize: {{precision: int8}}`, which keeps its "
            "scales"
        )


def _name_ports(model: Any, source: Path) -> set[str]:
    """Give inputs and outputs just the names that ONNX has; all names of the ONNX graph.

    Conversion may leave a port with several names, of which a server would see any one.
    """
    graph = _onnx.load_graph(source).graph
    for ports, values in ((model.inputs, graph.input), (model.outputs, graph.output)):
        wanted = {value.name for value in values}
        for port in ports:
            found = sorted(wanted & port.get_names())
            if len(found) != 1:
                raise ModelError(
                    f"OpenVINO joins or renames {found or sorted(port.get_names())}; "
                    "give every input and output of the model a value of its own"
                )
            port.get_tensor().set_names({found[0]})
    return {node.name for node in graph.node} | {n for node in graph.node for n in node.output}


def _settle_names(model: Any, kept: set[str]) -> None:
    """Number the operators that carry a counter's name, so that equal models give equal bytes."""
    for number, op in enumerate(model.get_ordered_ops()):
        counted = _COUNTED.match(op.get_friendly_name())
        if counted and counted.group() not in kept:
            op.set_friendly_name(f"{op.get_type_name()}.{number}")


def _in_8_bits(
    model: Any, inputs: Inputs, params: Params
) -> tuple[Any, Mapping[str, str], Mapping[str, float]]:
    """The model in int8, what stays in floating point as int8 would ruin it, and the operators
    whose channels were balanced before, where that brought it nearer.
    """
    if inputs.calibration is None:
        raise DataError(_calibrate.NO_DATA)
    tensors = [_runtimes.openvino_tensor(port) for port in model.inputs]
    samples = _data.samples(inputs.calibration / _calibrate.FILE, tensors, params.samples or None)
    keep = _keep.read(inputs.keep)
    with explained(
        "OpenVINO cannot run the model", "use target `cpu`", ModelError, _runtimes.FIXES
    ):
        made, left = _quantize(model, samples, params, keep)
        expected = _openvino_int8.answers(model, samples)
        error = _same.largest(expected, _openvino_int8.answers(made, samples))
        if error <= _balance.NEAR:
            return made, left, {}
        with tempfile.TemporaryDirectory() as scratch:
            kinds = _balance.kinds(params.repair)
            uneven = _balance.balance(inputs.model, samples, Path(scratch), kinds)
            if uneven:
                even, _ = _converted(Path(scratch), params)
                balanced, left_then = _quantize(even, samples, params, keep)
                answers = _openvino_int8.answers(balanced, samples)
                if _same.largest(expected, answers) < _balance.WORTH * error:
                    return balanced, left_then, uneven
        return made, left, {}


def _quantize(
    model: Any, samples: _data.Samples, params: Params, keep: _keep.Keep
) -> tuple[Any, Mapping[str, str]]:
    """The model in int8, and what stays in floating point because int8 would ruin it.

    `keep` has names of the ONNX graph that stay too.
    """
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )

    ranges = _activation_ranges(params)
    _openvino_int8.keep_dimensions(model)
    _openvino_int8.spread_biases(model)
    ruined = _kept(model, keep.source) | _openvino_int8.ruined(model, samples)
    ignored = _to_leave(model, params.exclude) | ruined.keys()
    whole = any(op.get_type_name() in _NOT_IN_PARTS for op in model.get_ops())
    preset = nncf.QuantizationPreset
    overflow = OverflowFix.ENABLE if params.weight_bits == 7 else OverflowFix.DISABLE
    with explained("NNCF failed", "write `optimize: {precision: fp16}`"):
        made = nncf.quantize(
            model,
            nncf.Dataset(range(samples.runs), samples.feed),
            subset_size=samples.runs,
            preset=preset.PERFORMANCE if params.symmetric else preset.MIXED,
            # The fast one shifted outputs 7 times as far from fp32 on our examples.
            fast_bias_correction=whole,
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=overflow,
                disable_bias_correction=whole or "bias" not in params.repair,
                activations_range_estimator_params=ranges,
                weights_quantization_params=QuantizationParameters(per_channel=params.per_channel),
            ),
        )
        _openvino_narrow.store(
            made, keep.narrow_source, params.weight_bits, per_channel=params.per_channel
        )
    return made, ruined


def _activation_ranges(params: Params) -> Any:
    """How NNCF finds ranges. It sees one row at a time: `percentile` cuts each row's tails and
    takes the widest of what is left. (NNCF's own default, a mean over rows, clips half of them.)
    """
    from nncf.quantization import range_estimator as estimator

    if params.method == "minmax":
        return estimator.RangeEstimatorParametersSet.MINMAX
    if params.method == "percentile":
        cut = (1 - params.percentile / 100) / 2
        low, high = (
            estimator.StatisticsCollectorParameters(
                statistics_type=estimator.StatisticsType.QUANTILE,
                aggregator_type=widest,
                quantile_outlier_prob=cut,
            )
            for widest in (estimator.AggregatorType.MIN, estimator.AggregatorType.MAX)
        )
        return estimator.RangeEstimatorParameters(min=low, max=high)
    raise SpecError(
        f"optimize.quantization.method: OpenVINO has no {params.method} calibration; "
        "write minmax or percentile for this target"
    )


def _kept(model: Any, keep: Mapping[str, str]) -> dict[str, str]:
    """The operators that have a name in `keep`, and why they stay."""
    found = {}
    for op in model.get_ordered_ops():
        name = op.get_friendly_name().removesuffix("/WithoutBiases")
        if name in keep and op.get_type_name() not in ("Parameter", "Result", "Constant"):
            found[op.get_friendly_name()] = keep[name]
    return found


def _to_leave(model: Any, exclude: Iterable[str]) -> set[str]:
    """Operators that stay in floating point: those excluded, and all behind the last heavy one.

    As in `quantize`: a detector that decodes boxes there would put pixels and scores on one scale.
    """
    ops: Sequence[Any] = model.get_ordered_ops()
    names = [op.get_friendly_name() for op in ops]
    left = _excluded(ops, exclude)
    leads_on: set[str] = set()
    for name, op in zip(reversed(names), reversed(ops), strict=True):
        readers = {
            i.get_node().get_friendly_name() for o in op.outputs() for i in o.get_target_inputs()
        }
        if _heavy(op) or readers & leads_on:
            leads_on.add(name)
        elif op.get_type_name() not in ("Parameter", "Result", "Constant"):
            left.add(name)
    return left


def _excluded(ops: Sequence[Any], exclude: Iterable[str]) -> set[str]:
    """The names of operators that match a glob; ModelError where one matches none."""
    names = [op.get_friendly_name() for op in ops]
    left = set()
    for pattern in exclude:
        # A convolution with a bias is two operators here: `x/WithoutBiases`, and an Add `x`.
        found = {
            name
            for name in names
            if fnmatch.fnmatchcase(name.removesuffix("/WithoutBiases"), pattern)
        }
        if not found:
            raise ModelError(
                f"quantization.exclude: '{pattern}' matches no operator; heavy ones are "
                + ", ".join(n for n, op in zip(names, ops, strict=True) if _heavy(op))[:200]
            )
        left |= found
    return left


def _count(model: Any) -> tuple[dict[str, int], dict[str, int]]:
    quantized: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    for op in filter(_heavy, model.get_ordered_ops()):
        (quantized if _in_int8(op) else floating)[op.get_type_name()] += 1
    return dict(sorted(quantized.items())), dict(sorted(floating.items()))


def _in_int8(op: Any) -> bool:
    """Whether the second input, mostly the weights, is rounded or stored in 8 or 4 bits."""
    source = op.input_value(1).get_node()
    while source.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape"):
        source = source.input_value(0).get_node()
    kind = source.get_element_type().get_type_name()
    return source.get_type_name() == "FakeQuantize" or kind in ("i8", "u8", "i4", "u4")


def _heavy(op: Any) -> bool:
    return op.get_type_name() in _openvino_int8.HEAVY
