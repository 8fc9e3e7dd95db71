"""What the data are for: the inputs of a model, and what its spec says of data, with lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repo_builder.base import validate
from repo_builder.base.artifact import Tensor, TensorType
from repo_builder.base.document import Document
from repo_builder.base.errors import DataError, ModelError, Problem, SpecError
from repo_builder.data.rows import Array, Rows
from repo_builder.introspect import declared
from repo_builder.plan import front
from repo_builder.spec import load, resolve_source
from repo_builder.spec.metrics import REQUIRES
from repo_builder.spec.raw import RawPreprocess, RawSpec
from repo_builder.steps import _data

Runs = Callable[[Path, Mapping[str, Array]], str]
"""Asked why a model does not run on some inputs; see `why_not`."""

_SOURCE = ("source", "onnx")
_FLOATS = ("FP16", "BF16", "FP32", "FP64")
_CHUNK = 1024
"""Runs that are checked at once, so that memory stays small."""


@dataclass(frozen=True)
class Model:
    """A model: its inputs as its file declares them; its spec, if it has one.

    `output` is the one that a metric of one output reads; "" where the file declares none with a
    type. `onnx` is None for a PyTorch net, whose spec declares its inputs and outputs.
    """

    onnx: Path | None
    inputs: tuple[Tensor, ...]
    output: str
    spec: Document | None = None
    raw: RawSpec | None = None

    @property
    def only_input(self) -> str:
        """The name of the input where there is one, else ""."""
        return self.inputs[0].name if len(self.inputs) == 1 else ""

    @property
    def types(self) -> Mapping[str, str]:
        """Input -> numpy's name of its type; text is `object`."""
        return {tensor.name: str(_data.numpy_type(tensor)) for tensor in self.inputs}

    @property
    def joined(self) -> bool:
        """Whether the file is the net alone, and what is built takes images or samples."""
        if self.raw is None:
            return False
        recipe = self.raw.preprocess
        return self.raw.signal is not None or (recipe is not None and recipe.place == "graph")

    @property
    def preprocess(self) -> RawPreprocess | None:
        """How its spec says that images become its input."""
        return self.raw.preprocess if self.raw else None

    def problem(self, what: str, fix: str) -> Problem:
        """What does not fit it: at the line of the spec that says its inputs, else its file."""
        if self.spec is None:
            return Problem(what, fix, str(self.onnx))
        source = _SOURCE if self.onnx else ("source",)
        return self.spec.problem(("preprocess",) if self.preprocess else source, what, fix)


@dataclass(frozen=True)
class Purpose:
    """The metric and the name of its label; the model where there is a spec."""

    metric: str = "accuracy"
    label: str = "label"
    model: Model | None = field(default=None)


def purpose(spec: Path | None, metric: str | None) -> Purpose:
    """What data for `spec` are for; `metric` wins over the spec's.

    SpecError or ModelError where spec or model cannot be read.
    """
    if spec is None:
        return Purpose(metric or "accuracy", _label(metric or "accuracy", {}))
    model = _model(spec)
    evaluation = model.raw.data.evaluation if model.raw else None
    chosen = metric or (evaluation.metric if evaluation else "accuracy")
    return Purpose(chosen, _label(chosen, evaluation.labels if evaluation else {}), model)


def _label(metric: str, names: Mapping[str, str]) -> str:
    needs = next((r.labels for name, r in REQUIRES.items() if name == metric), ())
    first = needs[0] if needs else "label"
    return names.get(first, first)


def _model(path: Path) -> Model:
    whole = load.document_of(path)
    raw, problems = validate.check(RawSpec, whole)
    if not isinstance(raw, RawSpec):
        raise SpecError(f"{path} has {len(problems)} problems:", problems)
    if raw.source.torch is not None:
        net = raw.source.torch
        named = {output: TensorType("", None) for output in net.outputs}
        return Model(
            None, _taken(resolve_source.tensors(net), raw), _answer(named, raw), whole, raw
        )
    file = path.parent / (raw.source.onnx or "")
    try:
        interface = declared.interface(file)
    except OSError as failure:
        problem = whole.problem(_SOURCE, f"{file}: {failure.strerror}", "see the path")
        raise SpecError("the spec names no model:", [problem]) from None
    if interface is None:
        problem = whole.problem(_SOURCE, f"{file} is no ONNX model", "export it again")
        raise ModelError("the model cannot be read:", [problem])
    inputs = tuple(
        Tensor(name, kind.dtype, kind.shape)
        for name, kind in interface.inputs.items()
        if kind.shape is not None
    )
    return Model(file, _taken(inputs, raw), _answer(interface.outputs, raw), whole, raw)


def _taken(inputs: Sequence[Tensor], raw: RawSpec) -> tuple[Tensor, ...]:
    """The inputs of what is built, which takes images or samples where the spec says so."""
    changed: dict[str, tuple[str, tuple[int | str, ...]]] = {}
    if raw.preprocess is not None and raw.preprocess.place == "graph":
        recipe = raw.preprocess.model_dump()
        changed[raw.preprocess.input] = "UINT8", front.shape(recipe)
    if raw.signal is not None and (said := raw.signal.log_mel or raw.signal.sensor):
        channels = () if raw.signal.sensor is None else (raw.signal.sensor.channels,)
        kind = "INT16" if said.dtype == "int16" else "FP32"
        changed[said.input] = kind, (said.samples, *channels)
    return tuple(
        Tensor(tensor.name, changed[tensor.name][0], (*tensor.shape[:1], *changed[tensor.name][1]))
        if tensor.name in changed
        else tensor
        for tensor in inputs
    )


def _answer(outputs: Mapping[str, TensorType], raw: RawSpec) -> str:
    """The output that the spec says is judged; else the first table of scores or values.

    A class beside its scores, as scikit-learn's classifiers have it first, is not it: `fallback`
    and most metrics read scores.
    """
    named = raw.data.evaluation.outputs if raw.data.evaluation else {}
    if len(named) == 1:
        return next(iter(named.values()))
    if raw.fallback and raw.fallback.output:
        return raw.fallback.output
    floats = [name for name, kind in outputs.items() if kind.dtype in _FLOATS]
    tables = [n for n in floats if len(shape := outputs[n].shape or ()) > 1 and shape[-1] != 1]
    return next(iter([*tables, *floats, *outputs]), "")


def check(rows: Rows, wanted: Purpose, runs: Runs | None = None) -> None:
    """DataError, with file and line of the spec, for all of `rows` that the model cannot take.

    `runs`, where given, is asked whether the model runs on the first rows: sizes and values that
    its file leaves open may be others than it takes.
    """
    clash = sorted(set(rows.inputs) & set(rows.labels))
    if clash:
        raise DataError(f"'{clash[0]}' is an input and a label; name one otherwise")
    model = wanted.model
    if model is None:
        return
    names = {tensor.name for tensor in model.inputs}
    problems = [
        model.problem(f"the model has no input '{name}'", f"it has: {sorted(names)}")
        for name in rows.inputs
        if name not in names
    ]
    whole = block(rows, wanted)
    count = max(rows.count // whole, 1) * whole
    for start in range(0, count, _CHUNK * whole):
        part = {n: a[start : min(start + _CHUNK * whole, count)] for n, a in rows.inputs.items()}
        try:
            _data.check(part, model.inputs, "the data")
        except DataError as failure:
            after = f" (counted from row {start})" if start else ""
            problems += [model.problem(p.what + after, p.fix) for p in failure.problems]
            break
    if problems:
        raise DataError("the data do not fit the model:", problems)
    if runs is None or model.onnx is None or model.joined:
        return
    first = {name: array[:whole] for name, array in rows.inputs.items()}
    if why := runs(model.onnx, _data.check(first, model.inputs, "the data").feed(0)):
        sizes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in first.items())
        problem = model.problem(f"it does not run on the first row, {sizes}: {why}", "")
        raise DataError("the data do not fit the model:", [problem])


def check_labels(rows: Rows, wanted: Purpose) -> None:
    """DataError where the metric reads none of the labels, so that another one is meant."""
    if not rows.labels or wanted.metric == "own" or wanted.label in rows.labels:
        return
    fits = [
        name
        for name, needs in REQUIRES.items()
        if needs.labels and {*needs.labels} <= {*rows.labels}
    ]
    metric = f"; name the metric: --metric {' or '.join(fits)}" if fits else ""
    raise DataError(
        f"{wanted.metric} reads the label '{wanted.label}', and there are: "
        f"{', '.join(rows.labels)}{metric}"
    )


def why_not(onnx: Path, feed: Mapping[str, Array]) -> str:
    """Why the model does not run on these inputs, in the runtime's words, or "".

    For a process of its own: a model may crash its runtime. ModelError where it cannot be loaded.
    """
    from repo_builder.introspect import graph, runtime, trial

    try:
        trial.run(graph.read(onnx), feed)
    except runtime.errors() as failure:
        return runtime.reason_of(failure)
    return ""


def check_file(file: Path, wanted: Purpose) -> None:
    """DataError, with file and line of the spec, where an `.npz` file does not fit its model."""
    if wanted.model is None:
        return
    try:
        _data.samples(file, wanted.model.inputs)
    except DataError as failure:
        problems = [wanted.model.problem(p.what, p.fix) for p in failure.problems]
        raise DataError(f"{file} does not fit the model:", problems) from None


def block(rows: Rows, wanted: Purpose) -> int:
    """How many rows the model takes at once: the least multiple of its fixed first dimensions."""
    sizes = [
        tensor.shape[0]
        for tensor in (wanted.model.inputs if wanted.model else ())
        if tensor.name in rows.inputs and rows.inputs[tensor.name].ndim == len(tensor.shape)
    ]
    return math.lcm(*(size for size in sizes if isinstance(size, int)))
