"""`sensitivity`: what int8 costs in each layer, on rows without labels, and what to leave out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from repo_builder.base import progress
from repo_builder.base.errors import DataError
from repo_builder.introspect import quantized as quantized_source
from repo_builder.steps import (
    _answers,
    _balance,
    _batch,
    _calibrate,
    _data,
    _inner,
    _keep,
    _layers,
    _observe,
    _onnx,
    _prepare,
    _quantizable,
    _runtimes,
    _same,
    _switched,
)
from repo_builder.steps._failures import explained
from repo_builder.targets.types import CalibrationMethod, Repair, Scheme

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

ROWS = 64
"""Rows on which layers are compared: the order settles long before."""

LEAST_ROWS = 4

WORK = 1e12
"""Multiply-accumulates that one round over all layers may take: half a minute to a few of them."""

Form = Literal["int8", "weights", "float"]

TOGETHER = 16
"""Rows that are run at once, where the model lets them."""


@dataclass(frozen=True)
class Params:
    """As in `quantize`, which the error is of, but that of `repair` what changes single weights and
    biases is not asked. `shared`: see `_switched.Grid`.

    `max_error` is the largest relative error of an output that the layers left in int8 may make.
    `narrow`: the runtime computes in floating point with weights stored in 8 bits, so that a layer
    that cannot bear int8 activations need not give up its bytes.
    """

    scheme: Scheme
    samples: int
    shared: bool
    max_error: float
    narrow: bool = False
    method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    weight_bits: Literal[7, 8] = 8
    symmetric: bool = False
    repair: tuple[Repair, ...] = ("equalize", "smooth")

    @property
    def around_zero(self) -> bool:
        """Whether ranges of activations are used from -x to x."""
        return self.symmetric or self.scheme == "s8s8"


@dataclass(frozen=True)
class Inputs:
    """`model`: a model in fp32. `calibration`: a folder with `calibration.npz`."""

    model: Path
    calibration: Path | None = None


@dataclass(frozen=True)
class Layer:
    """One layer, alone in int8: the largest relative error of an output, and that of each.

    A relative error is the norm of the difference over the norm of the answer in fp32, the root of
    the relative mean squared error. `saved` are bytes of weights that int8 saves, `share` is the
    layer's share of the multiply-accumulates. `form` is what it is to be: `int8`; `weights`, which
    are stored in int8 while it computes in floating point; or `float`.
    """

    name: str
    kind: str
    error: float
    errors: Mapping[str, float]
    saved: int
    share: float
    form: Form


@dataclass(frozen=True)
class Facts:
    """`layers`, the worst first, asked on `rows` rows.

    `whole` is the error with all of them in int8, `error` that with each in its form;
    `saved` is the share of int8's bytes that is saved even so, `share` that of the work which is
    done in int8. `source` is the form of a source that came quantized and is not ranked, else "".
    `balanced`: as in `quantize`.
    """

    layers: tuple[Layer, ...] = ()
    rows: int = 0
    whole: float = 0.0
    error: float = 0.0
    max_error: float = 0.0
    saved: float = 1.0
    share: float = 1.0
    source: str = ""
    balanced: Mapping[str, float] = field(default_factory=dict)


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `keep.json`: the layers that stay in floating point.

    DataError: the calibration data is missing or does not fit. ModelError: as of `quantize`.
    StepError: the model cannot be run. Where there is nothing to quantize there are no layers.
    """
    if (already := quantized_source.find(_onnx.load_graph(inputs.model))) is not None:
        _keep.write(out, _keep.Keep({}, {}))
        return Facts(source=already.form)
    if inputs.calibration is None:
        raise DataError(_calibrate.NO_DATA)
    runner = _runtimes.load(inputs.model, "onnxruntime")
    samples = _data.samples(inputs.calibration / _calibrate.FILE, runner.inputs, params.samples)
    with explained("the layers cannot be compared", "see the log, and check the model's data"):
        expected = _same.answers(inputs.model, samples)
        model, _ = _prepare.prepare(_onnx.optimized(inputs.model), expected, samples)
        first = samples.first(_batch.ROWS)
        alone = _answers.run_all(runner, first)
        together = not _batch.why_not(runner, first, alone)
        asked, balanced = _Asked(model, samples, params, together), {}
        if not asked.layers:
            _keep.write(out, _keep.Keep({}, {}))
            return Facts()
        kinds = _balance.kinds(params.repair)
        if kinds and asked.error(()) > _balance.NEAR:
            even, uneven = _balance.balanced(model, expected, samples, kinds)
            if even is not None:
                other = _Asked(even, samples, params, together)
                if other.error(()) < _balance.WORTH * asked.error(()):
                    asked, balanced = other, uneven
        return _ranked(asked, params, balanced, inputs.model, out)


def _ranked(
    asked: _Asked, params: Params, balanced: Mapping[str, float], source: Path, out: Path
) -> Facts:
    layers = asked.layers
    errors = []
    for number, layer in enumerate(layers):
        errors.append(asked.alone(number))
        progress.tell(f"{number + 1} of {len(layers)} layers, {layer.name}")
    largest = [max(found.values(), default=0.0) for found in errors]
    order = sorted(range(len(layers)), key=lambda number: (-largest[number], number))
    kept = _keep.fewest(order, asked.error, params.max_error)
    narrow = _narrow(asked, kept, params)
    forms: dict[int, Form] = {n: "weights" if n in narrow else "float" for n in kept}
    _keep.write(out, _left(asked, {n: largest[n] for n in kept}, narrow, source))
    saved = sum(layer.saved for layer in layers)
    given_up = sum(layers[n].saved for n in kept if n not in narrow)
    return Facts(
        layers=tuple(
            Layer(
                layers[n].name,
                layers[n].kind,
                _settled(largest[n]),
                {name: _settled(error) for name, error in sorted(errors[n].items())},
                layers[n].saved,
                _settled(_layers.share(layers, [layers[n]])),
                forms.get(n, "int8"),
            )
            for n in order
        ),
        rows=asked.rows,
        whole=_settled(asked.error(())),
        error=_settled(asked.error(kept, narrow)),
        max_error=params.max_error,
        saved=_settled(1 - given_up / saved if saved else 1.0),
        share=_settled(1 - _layers.share(layers, [layers[n] for n in kept])),
        balanced=balanced,
    )


def _narrow(asked: _Asked, kept: Sequence[int], params: Params) -> frozenset[int]:
    """The layers of `kept` whose weights bear 8 bits, where the runtime computes with those."""
    if not params.narrow:
        return frozenset()
    with_weights = [
        number
        for number in kept
        if asked.layers[number].kind in _quantizable.HEAVY and asked.layers[number].weights
    ]

    def error(wide: Collection[int]) -> float:
        return asked.error(kept, frozenset(with_weights).difference(wide))

    return frozenset(with_weights).difference(_keep.fewest(with_weights, error, params.max_error))


def _left(
    asked: _Asked, kept: Mapping[int, float], narrow: Collection[int], source: Path
) -> _keep.Keep:
    """The nodes of the kept layers, here and in the source, each with why it stays."""
    why = {
        node: _keep.why(error)
        for number, error in kept.items()
        for node in asked.layers[number].nodes
    }
    border = {name for node in asked.model.graph.node for name in (*node.input, *node.output)}
    made = {name: node for node in _onnx.load_graph(source).graph.node for name in node.output}
    stored = {asked.layers[number].name for number in narrow}
    in_source: dict[str, str] = {}
    narrow_source: set[str] = set()
    for node in asked.model.graph.node:
        if node.name not in why:
            continue
        open_names = [name for name in node.output if name]
        while open_names:
            maker = made.get(open_names.pop())
            if maker is None:
                continue
            names = [name for name in (maker.name, *maker.output) if name]
            in_source.update((name, why[node.name]) for name in names)
            if node.name in stored and maker.op_type in _quantizable.HEAVY:
                narrow_source.update(names)
            open_names += [name for name in maker.input if name not in border]
    return _keep.Keep(why, in_source, sorted(stored), sorted(narrow_source))


def _settled(value: float) -> float:
    return float(f"{value:.3e}")


class _Asked:
    """A prepared model whose layers can be asked for their error."""

    def __init__(
        self, model: ModelProto, samples: _data.Samples, params: Params, together: bool
    ) -> None:
        self.model = model
        nodes, ranges = _around(model, samples, params)
        self.layers = _layers.find(model, nodes, _shapes(model, nodes, samples))
        grid = _switched.Grid(
            params.scheme == "s8s8",
            params.around_zero,
            params.weight_bits,
            params.per_channel,
            params.shared,
        )
        self._switched = _switched.Switched(model, nodes, self.layers, ranges, grid)
        block = max(max(samples.blocks.values(), default=1), 1)
        work = sum(layer.macs for layer in self.layers) * len(self.layers) or 1
        runs = int(np.clip(WORK / work, LEAST_ROWS, ROWS // block or 1))
        taken = samples.first(min(runs, samples.runs))
        self.rows = taken.rows
        self._feeds = _feeds(taken, TOGETHER if together else 1)
        self._expected = self._switched.answers((), self._feeds)
        self._known: dict[tuple[frozenset[int], frozenset[int]], float] = {}

    def alone(self, layer: int) -> dict[str, float]:
        """The relative error of each output with only this layer in int8."""
        return self._errors([layer])

    def error(self, kept: Collection[int], narrow: Collection[int] = ()) -> float:
        """The largest relative error of an output with all layers but `kept` in int8.

        Of `narrow`, which are of those, the weights are in 8 bits.
        """
        key = frozenset(kept), frozenset(narrow)
        if key not in self._known:
            on = set(range(len(self.layers))).difference(kept)
            self._known[key] = max(self._errors(on, narrow).values(), default=0.0)
        return self._known[key]

    def _errors(self, on: Collection[int], narrow: Collection[int] = ()) -> dict[str, float]:
        answers = self._switched.answers(on, self._feeds, narrow)
        return {
            name: _same.relative(
                [run[name] for run in self._expected], [run[name] for run in answers]
            )
            for name in self._expected[0]
        }


def _around(
    model: ModelProto, samples: _data.Samples, params: Params
) -> tuple[list[NodeProto], dict[str, _calibrate.Range]]:
    """The nodes that `quantize` would quantize, and the ranges of the tensors in fp32 around them.

    None where it would refuse the model, as there is no heavy one.
    """
    from onnx import TensorProto

    nodes = _quantizable.chosen(model, params.exclude, whole=False)
    seen = _observe.watch(model, nodes, samples)
    nodes, _ = _quantizable.kept(model, nodes, seen, whole=False)
    if not any(node.op_type in _quantizable.HEAVY for node in nodes):
        return [], {}
    fp32 = _inner.floats(model) | {
        value.name
        for value in model.graph.input
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    around = {name for node in nodes for name in (*node.input, *node.output)}
    return nodes, {
        name: _calibrate.choose(histogram, params.method, params.percentile, params.around_zero)
        for name, histogram in seen.items()
        if name in around & fp32
    }


def _shapes(
    model: ModelProto, nodes: Sequence[NodeProto], samples: _data.Samples
) -> dict[str, tuple[int, ...]]:
    """The shapes of what heavy nodes read and make, in the first run."""
    first = samples.first(1)
    made = {name for node in model.graph.node for name in node.output}
    heavy = [node for node in nodes if node.op_type in _quantizable.HEAVY]
    around = dict.fromkeys(n for node in heavy for n in (node.input[0], *node.output))
    names = [name for name in around if name in made]
    found = next(_inner.values(model, names, first, optimize=True))
    return {name: array.shape for name, array in {**first.feed(0), **found}.items()}


def _feeds(samples: _data.Samples, together: int) -> list[dict[str, _data.Array]]:
    """The inputs run by run, or so many rows at once."""
    if together == 1:
        return [samples.feed(run) for run in range(samples.runs)]
    return [
        {name: array[start : start + together] for name, array in samples.arrays.items()}
        for start in range(0, samples.runs, together)
    ]
