"""`quantize`: static int8 as explicit QuantizeLinear / DequantizeLinear pairs (QDQ)."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from repo_builder import tflite
from repo_builder.base.errors import DataError, StepError
from repo_builder.introspect import quantized as quantized_source
from repo_builder.steps import (
    _already,
    _balance,
    _bodies,
    _calibrate,
    _data,
    _grid,
    _keep,
    _narrow,
    _observe,
    _onnx,
    _prepare,
    _qdq,
    _quantizable,
    _repair,
    _runtimes,
    _same,
)
from repo_builder.steps._failures import explained
from repo_builder.targets.types import CalibrationMethod, Repair, Scheme

if TYPE_CHECKING:
    from onnx import ModelProto

FILE = _calibrate.FILE
WAY_OUT = "write `optimize: {precision: fp32}`, or fp16 where the target has no fp32"
NO_WAY_OUT = "this target has no other precision: use target `cpu`"

FUSED = (2.0, 0.02)
"""How much further from fp32 an int8 model may be with ONNX Runtime's fusions than as written: this
factor, and this much of the norm. Kernels in integers round otherwise, by a step here and there."""


@dataclass(frozen=True)
class Params:
    """`scheme` is the target's: `u8s8` (activations unsigned, with a zero point), or `s8s8`: signed
    and symmetric, with the pairs that TensorRT wants. `symmetric` puts the zero point of unsigned
    ones in the middle. `activation_bits` 16 and `weight_bits` 4 are for QNN.

    `whole` is for TFLite, which runs int8 only: nothing stays in floating point, not even what
    follows the last heavy operator, and ranges that TFLite's kernels fix replace those seen.

    `weight_bits` 7 is for processors that may lack VNNI: their products of unsigned and signed
    bytes are added in pairs in 16 bits, which 8 bits overflow (saturate) and 7 never do.
    `repair`: `equalize` and `smooth` as in `_balance`, `bias` and `round` as in `_repair`; each is
    kept where the model comes nearer. The rest is `repo_builder.spec.types.Quantization`; `samples`
    rows are used, from the start.
    """

    scheme: Scheme
    samples: int
    method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    whole: bool = False
    weight_bits: Literal[4, 7, 8] = 8
    activation_bits: Literal[8, 16] = 8
    symmetric: bool = False
    repair: tuple[Repair, ...] = ("equalize", "smooth")

    @property
    def narrow_bits(self) -> Literal[7, 8]:
        """Bits of weights that are stored for nodes which compute in floating point."""
        return 7 if self.weight_bits == 7 else 8

    @property
    def form(self) -> _qdq.Form:
        """Which integers are written."""
        return _qdq.Form(
            self.scheme,
            self.symmetric,
            self.per_channel,
            self.weight_bits,
            self.activation_bits,
            self.whole,
        )


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
    and how uneven those were; `rounded` and `corrected` those whose weights and biases were
    repaired (see `_repair`).
    """

    quantized: Mapping[str, int]
    floating: Mapping[str, int]
    ranges: Mapping[str, tuple[float, float]]
    left: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    error: float = 0.0
    form: str = ""
    balanced: Mapping[str, float] = field(default_factory=dict)
    rounded: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()


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
    source_model = _Source(given, inputs.model, samples, expected, keep, left_out)
    return _repaired(source_model, model, params, out)


@dataclass(frozen=True)
class _Source:
    """The model in fp32: its graph, its folder, its answers to the first rows of calibration data.

    `keep`: what stays in floating point. `left_out`: as in `Facts`.
    """

    graph: ModelProto
    folder: Path
    samples: _data.Samples
    expected: _same.Answers
    keep: _keep.Keep
    left_out: Mapping[str, str]


def _repaired(source: _Source, model: ModelProto, params: Params, out: Path) -> Facts:
    """Write the int8 form of a prepared model, with each repair that brings it nearer."""
    facts = _made(source, model, params, out)
    kinds = _balance.kinds(params.repair)
    if kinds and facts.error > _balance.NEAR:
        even, uneven = _balance.balanced(model, source.expected, source.samples, kinds)
        if even is not None:
            with tempfile.TemporaryDirectory() as scratch:
                balanced = _made(source, even, params, Path(scratch))
                if balanced.error < _balance.WORTH * facts.error:
                    _onnx.save(_onnx.load(Path(scratch)), out)
                    facts, model = replace(balanced, balanced=uneven), even
    if _repair.KINDS.intersection(params.repair):
        with tempfile.TemporaryDirectory() as scratch:
            repaired = _made(source, model, params, Path(scratch), repair=True)
            if _nearer(source, Path(scratch), out):
                _onnx.save(_onnx.load(Path(scratch)), out)
                facts = replace(repaired, balanced=facts.balanced)
    return replace(facts, left_out=source.left_out)


def _nearer(source: _Source, one: Path, other: Path) -> bool:
    """Whether the model in `one` answers nearer to the source than that in `other`."""
    expected, first, second = (
        _same.answers(folder, source.samples, runs=_repair.CHOSEN_ON)
        for folder in (source.folder, one, other)
    )
    return _same.largest(expected, first) < _same.largest(expected, second)


def _made(
    source: _Source, given: ModelProto, params: Params, out: Path, *, repair: bool = False
) -> Facts:
    """Write the int8 form of a prepared model. The errors are those of `run`.

    `repair`: with biases and rounding as `params` has them.
    """
    model = type(given)()
    model.CopyFrom(given)
    nodes = _quantizable.chosen(model, params.exclude, params.whole)
    seen = _observe.watch(model, nodes, source.samples)
    nodes, left = _quantizable.kept(model, nodes, seen, params.whole)
    nodes = [node for node in nodes if node.name not in source.keep.nodes]
    left |= source.keep.nodes
    if not any(node.op_type in _quantizable.HEAVY for node in nodes):
        if not source.keep.narrow:
            raise StepError(_nothing(model, left, NO_WAY_OUT if params.whole else WAY_OUT))
        left |= {node.name: "is between layers that stay in floating point" for node in nodes}
        nodes = []
    form = params.form
    around = {name for node in nodes for name in (*node.input, *node.output)}
    ranges = {
        name: _calibrate.choose(
            histogram,
            params.method,
            params.percentile,
            form.around_zero,
            bits=form.activation_bits,
        )
        for name, histogram in seen.items()
        if name in around
    }
    if params.whole:
        fixed = tflite.output_ranges(model)
        ranges.update({name: _calibrate.Range(*fixed[name]) for name in fixed.keys() & ranges})
    grids: dict[str, _grid.Grid] = {}
    changed = _repair.Repaired()
    if repair or form.weight_bits == 4:  # ONNX Runtime's quantizer clips the largest of 4 bits
        grids = _qdq.grids(model, nodes, form)
    if repair:
        heavy = [node for node in nodes if node.name in grids]
        changed = _repair.repair(
            model,
            heavy,
            source.samples,
            grids,
            params.repair,
            lambda name, x: form.rounded(x, ranges[name]) if name in ranges else x,
        )
    chosen = {node.name for node in nodes}
    with explained("the quantizer failed", WAY_OUT):
        # Of no nodes the quantizer would take all.
        quantized = _qdq.quantize(model, nodes, ranges, form, grids) if nodes else model
        _narrow.store(
            quantized, source.keep.narrow, per_channel=params.per_channel, bits=params.narrow_bits
        )
    _onnx.unname_dimensions(source.graph, quantized)
    _onnx.require_same_interface(source.graph, quantized, "the quantizer", WAY_OUT)
    in_int8, floating = _count(quantized, chosen)
    _onnx.save(quantized, out)
    error = _proven(out, source.expected, source.samples)
    found = {name: (r.low, r.high) for name, r in sorted(ranges.items())}
    return Facts(
        in_int8,
        floating,
        found,
        left,
        error=error,
        rounded=changed.rounded,
        corrected=changed.corrected,
    )


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
