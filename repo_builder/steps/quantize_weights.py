"""`quantize-weights`: stored weights in 8 or 4 bits for ONNX Runtime; activations have no ranges.

The activations stay in floating point, or matrix products round them as they come. So no data is
needed, but for repairs, which look at what operators read on calibration rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from repo_builder.base.errors import ModelError, StepError
from repo_builder.introspect import quantized
from repo_builder.steps import (
    _already,
    _balance,
    _calibrate,
    _canonical,
    _data,
    _grid,
    _onnx,
    _quantizable,
    _repair,
    _runtimes,
    _same,
    _stored,
)
from repo_builder.steps._failures import explained
from repo_builder.targets.types import Repair, WeightType

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

WAY_OUT = "write `optimize: {precision: fp32}`"


@dataclass(frozen=True)
class Params:
    """`activations`: `none` computes in fp32, `dynamic` rounds what matrix products read to 8 bits.

    With 4 bits or `dynamic`, matrix products of stored weights have a scale for each block of 32
    inputs; there are no 4-bit convolutions, those get 8 bits, a scale for each channel with
    `per_channel`. `symmetric`: zero points are 0. `repair` needs `samples` rows of calibration
    data; `exclude` as in `quantize`.
    """

    weights: WeightType
    activations: Literal["dynamic", "none"] = "none"
    symmetric: bool = True
    per_channel: bool = True
    repair: tuple[Repair, ...] = ()
    exclude: tuple[str, ...] = ()
    samples: int = 0


@dataclass(frozen=True)
class Inputs:
    """`model`: a model in fp32. `calibration`: a folder with `calibration.npz`, for repairs."""

    model: Path
    calibration: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Operators with weights in 4 and in 8 bits, and other heavy ones, by type.

    `error` is the relative error to fp32 on the first calibration rows, `nearest` that of weights
    rounded to the nearest; None where there were no rows or no repairs. `balanced`, `rounded` and
    `corrected` are operators that were repaired: as in `quantize`.
    """

    in_4_bits: Mapping[str, int]
    in_8_bits: Mapping[str, int]
    floating: Mapping[str, int]
    error: float | None = None
    nearest: float | None = None
    balanced: Mapping[str, float] = field(default_factory=dict)
    rounded: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write the `model.onnx` with packed weights.

    ModelError: the model is quantized already, or `exclude` matches nothing. DataError: the
    calibration data does not fit. StepError: there are no weights to store so.
    """
    given = _onnx.load_graph(inputs.model)
    if (already := quantized.find(given)) is not None:
        raise ModelError(
            f"the model {already.what}; write `optimize: {{precision: int8}}` alone, which keeps "
            f"its scales, or {_already.SOURCE}"
        )
    with explained("ONNX Runtime cannot optimize the model", WAY_OUT):
        model = _onnx.optimized(inputs.model)
    _canonical.stored_in_fp32(model)
    _canonical.node_names(model)
    _canonical.plain_products(model)
    packed = _pack(model, params)
    if inputs.calibration is not None and params.repair:
        source = _runtimes.load(inputs.model, "onnxruntime")
        samples = _data.samples(
            inputs.calibration / _calibrate.FILE, source.inputs, params.samples or None
        )
        packed = _nearest(inputs.model, model, packed, samples, params)
    _onnx.unname_dimensions(given, packed.model)
    _onnx.require_same_interface(given, packed.model, "quantize-weights", WAY_OUT)
    _onnx.save(packed.model, out)
    return packed.facts


@dataclass(frozen=True)
class _Packed:
    """A model with packed weights, and what is told of it."""

    model: ModelProto
    facts: Facts


def _pack(given: ModelProto, params: Params, samples: _data.Samples | None = None) -> _Packed:
    """A copy of a model with its weights in integers, the nearest ones.

    With `samples`, those that `_repair` finds, and with biases as it corrects them.
    """
    model = type(given)()
    model.CopyFrom(given)
    nodes = _with_weights(model, params.exclude)
    products = {node.name for node in nodes if _is_product(model, node, params)}
    _require(nodes, products, params)
    grids = {
        node.name: _fit(rows, node.name in products, params)
        for node, rows, _ in _rows(model, nodes)
    }
    repaired = _repair.Repaired()
    if samples is not None:
        repaired = _repair.repair(model, nodes, samples, grids, params.repair)
    counts = _write(model, grids, products, params)
    facts = Facts(*counts, rounded=repaired.rounded, corrected=repaired.corrected)
    return _Packed(model, facts)


def _nearest(
    source: Path, model: ModelProto, plain: _Packed, samples: _data.Samples, params: Params
) -> _Packed:
    """With each repair that brings the answers nearer to those of `source` on calibration rows.

    `model` is what `plain` was packed from.
    """
    expected = _same.answers(source, samples, runs=_repair.CHOSEN_ON)

    def error(packed: _Packed) -> float:
        found = _same.answers_of(packed.model, samples, runs=_repair.CHOSEN_ON)
        return float(f"{_same.largest(expected, found):.3e}")

    best, nearest = plain, error(plain)
    least, uneven = nearest, dict[str, float]()
    kinds = _balance.kinds(params.repair)
    if kinds and nearest > _balance.NEAR:
        even, found = _balance.balanced(model, _same.answers(source, samples), samples, kinds)
        balanced = plain if even is None else _pack(even, params)
        if even is not None and (now := error(balanced)) < _balance.WORTH * least:
            best, least, model, uneven = balanced, now, even, found
    if _repair.KINDS.intersection(params.repair):
        repaired = _pack(model, params, samples)
        if (now := error(repaired)) < least:
            best, least = repaired, now
    return _Packed(best.model, replace(best.facts, error=least, nearest=nearest, balanced=uneven))


def _with_weights(model: ModelProto, exclude: Sequence[str]) -> list[NodeProto]:
    """Heavy nodes with stored weights in fp32 that nothing but weights of such nodes are."""
    from onnx import TensorProto

    graph = model.graph
    stored = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    stored -= {value.name for value in graph.output} | _canonical.captured(graph)
    heavy = [
        node
        for node in _quantizable.chosen(model, exclude, whole=False)
        if node.op_type in _quantizable.HEAVY and node.input[1] in stored
    ]
    names = {node.name for node in heavy}
    axes: dict[str, set[object]] = {}
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        for number, name in enumerate(node.input):
            if name in stored:
                use: object = (node.name, number)
                if node.name in names and number == 1:
                    use = _quantizable.axis(node, ranks[name])
                axes.setdefault(name, set()).add(use)
    return [node for node in heavy if len(axes[node.input[1]]) == 1]


def _is_product(model: ModelProto, node: NodeProto, params: Params) -> bool:
    """Whether a node becomes a MatMulNBits."""
    if params.weights == "int8" and params.activations == "none":
        return False
    rank = next(len(t.dims) for t in model.graph.initializer if t.name == node.input[1])
    return node.op_type in ("Gemm", "MatMul") and rank == 2


def _require(nodes: Sequence[NodeProto], products: set[str], params: Params) -> None:
    """StepError where the model has no weights for what is asked."""
    if not nodes:
        raise StepError(f"the model has no weights of convolutions or matrix products; {WAY_OUT}")
    if not products and (params.weights == "int4" or params.activations == "dynamic"):
        what = "4-bit convolutions" if params.weights == "int4" else "convolutions of that kind"
        raise StepError(
            f"the model has no matrix product of stored weights, and ONNX Runtime has no {what}; "
            "write `optimize: {quantization: {weights: int8, activations: none}}`"
        )


def _fit(weights: _grid.Array, product: bool, params: Params) -> _grid.Grid:
    """The grid for weights [outputs, inputs]: of a MatMulNBits, or in int8."""
    if not product:
        sharing: _grid.Sharing = "channel" if params.per_channel else "tensor"
        low = -127 if params.symmetric else -128
        return _grid.fit(weights, low=low, high=127, symmetric=params.symmetric, sharing=sharing)
    bits = 4 if params.weights == "int4" else 8
    zero, most = 1 << (bits - 1), (1 << bits) - 1
    if not params.symmetric:
        return _grid.fit(weights, low=0, high=most, symmetric=False, sharing="block")
    grid = _grid.fit(weights, low=-zero, high=zero - 1, symmetric=True, sharing="block")
    return _grid.Grid(grid.scale, grid.zero + zero, 0, most, grid.block)


def _rows(
    model: ModelProto, nodes: Iterable[NodeProto]
) -> Iterator[tuple[NodeProto, _grid.Array, int | None]]:
    """Each node with its weights as [outputs, inputs], and along which axis they store outputs."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nodes:
        weights = np.asarray(numpy_helper.to_array(stored[node.input[1]]), np.float32)
        axis = _quantizable.axis(node, weights.ndim)
        yield node, _stored.matrix(weights, axis), axis


def _write(
    model: ModelProto, grids: Mapping[str, _grid.Grid], products: set[str], params: Params
) -> tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]:
    """Put integers in the place of weights; operators in 4 bits, in 8, and others, by type."""
    writer = _stored.Writer(model)
    bits = 4 if params.weights == "int4" else 8
    level = _stored.IN_INT8 if params.activations == "dynamic" else _stored.IN_FP32
    heavy = Counter(n.op_type for n in model.graph.node if n.op_type in _quantizable.HEAVY)
    in_4, in_8 = Counter[str](), Counter[str]()
    chosen = [node for node in model.graph.node if node.name in grids]
    for node, rows, axis in list(_rows(model, chosen)):
        grid, product = grids[node.name], node.name in products
        (in_4 if product and bits == 4 else in_8)[node.op_type] += 1
        if product:
            writer.product(node, grid, grid.nearest(rows), bits, level)
        else:
            writer.unpacked(node, grid, grid.nearest(rows), axis)
    writer.finish()
    return _sorted(in_4), _sorted(in_8), _sorted(heavy - in_4 - in_8)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
