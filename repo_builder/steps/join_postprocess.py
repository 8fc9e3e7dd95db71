"""`join-postprocess`: a net with its spec's `postprocess` behind it.

The net's outputs stay outputs, on which a metric may judge and the proof compares; Triton's config
names those that are given out. What is joined is compared with a plain reading in numpy on random
scores; suppression is that of the stage `nms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import ModelError, did_you_mean
from repo_builder.introspect import walk
from repo_builder.plan.back import PREFIX
from repo_builder.steps import _onnx, stage_nms
from repo_builder.steps._graph import Graph

if TYPE_CHECKING:
    from onnx import ModelProto

Array = npt.NDArray[Any]
_OPSET = stage_nms.OPSET
_INPUTS = {"top_k": ("of",), "mask": ("of",), "ctc": ("of",)}
_RANKS = {"top_k": 2, "mask": 4, "ctc": 3, "nms": 3}


@dataclass(frozen=True)
class Params:
    """`kind` and its `params`: see `repo_builder.spec.raw_postprocess`."""

    kind: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with the net's `model.onnx` and its external data."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """How many rows of random scores gave the same answers as numpy's."""

    rows: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx`, with the answers as outputs more.

    ModelError: no such output, one of another rank or type, or a name that is taken.
    """
    import onnx

    model = _onnx.load(inputs.model)
    _onnx.fix_weights(model)
    if walk.opset(model) < _OPSET:
        model = _onnx.raised(model, _OPSET, "steps: ...` of a pipeline in place of `postprocess")
    back = _back(params)
    wires = _wires(model, params)
    _refuse_taken(model, back)
    rows = 0 if params.kind == "nms" else _proven(back, params)
    _join(model, back, wires)
    _onnx.save(model, out)
    onnx.checker.check_model(out / _onnx.MODEL)
    return Facts(rows)


def _back(params: Params) -> ModelProto:
    """The operators alone, as a model."""
    from onnx import TensorProto, helper

    said = params.params
    if params.kind == "nms":
        fields = stage_nms.Params.__dataclass_fields__
        known = {name: said[name] for name in fields if name in said}
        return stage_nms.graph(stage_nms.Params(**known, to_image=False))
    graph, ports = Graph(), helper.make_tensor_value_info
    makers = {"top_k": _best, "mask": _mask, "ctc": _ctc}
    outputs = makers[params.kind](graph, said)
    scores = ports("of", TensorProto.FLOAT, [None] * _RANKS[params.kind])
    parts = helper.make_graph(graph.nodes, params.kind, [scores], outputs, graph.constants)
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(parts, opset_imports=[opset], ir_version=stage_nms.IR_VERSION)


def _best(graph: Graph, said: Mapping[str, Any]) -> list[Any]:
    from onnx import TensorProto, helper

    scores = graph.add("Softmax", ["of"], "probabilities", axis=1) if said["softmax"] else "of"
    graph.add("TopK", [scores, graph.int64("k", said["k"])], "score", axis=1)
    graph.nodes[-1].output.append("class")
    ports = helper.make_tensor_value_info
    return [
        ports("class", TensorProto.INT64, ["rows", said["k"]]),
        ports("score", TensorProto.FLOAT, ["rows", said["k"]]),
    ]


def _mask(graph: Graph, _said: Mapping[str, Any]) -> list[Any]:
    from onnx import TensorProto, helper

    graph.add("ArgMax", ["of"], "best", axis=1, keepdims=0)
    graph.add("Cast", ["best"], "mask", to=TensorProto.UINT8)
    shape = ["rows", "mask_height", "mask_width"]
    return [helper.make_tensor_value_info("mask", TensorProto.UINT8, shape)]


def _ctc(graph: Graph, said: Mapping[str, Any]) -> list[Any]:
    """Kept steps come first, in their order, by sorting on the time left; see `decoded`."""
    from onnx import TensorProto, helper

    scores = "of"
    if said["layout"] == "time_first":
        scores = graph.add("Transpose", ["of"], "by_row", perm=[1, 0, 2])
    best = graph.add("ArgMax", [scores], "best", axis=2, keepdims=0)
    pads = graph.int64("one_before", 0, 1, 0, -1)
    none = graph.int64("none", -1, scalar=True)
    before = graph.add("Pad", [best, pads, none], "before")
    new = graph.add("Not", [graph.add("Equal", [best, before], "same")], "new")
    blank = graph.add("Equal", [best, graph.int64("blank", said["blank"], scalar=True)], "is_blank")
    kept = graph.add("And", [new, graph.add("Not", [blank], "sounds")], "kept")
    steps = graph.add("Shape", [best], "steps", start=1, end=2)
    most = graph.add("Squeeze", [steps], "most")
    zero, one = (graph.int64(n, v, scalar=True) for n, v in (("zero", 0), ("one", 1)))
    time = graph.add("Range", [zero, most, one], "time")
    left = graph.add("Sub", [most, time], "left")
    late = graph.add("Sub", [none, time], "late")
    order = graph.add("Where", [kept, left, late], "order")
    graph.add("TopK", [order, steps], "sorted", axis=1)
    graph.nodes[-1].output.append("places")
    symbols = graph.add("GatherElements", [best, "places"], "all_symbols", axis=1)
    real = graph.add("Greater", ["sorted", zero], "real")
    graph.add("Where", [real, symbols, none], "symbols")
    ones = graph.add("Cast", [kept], "ones", to=TensorProto.INT64)
    graph.add("ReduceSum", [ones, graph.int64("row_axis", 1)], "length", keepdims=1)
    ports = helper.make_tensor_value_info
    return [
        ports("symbols", TensorProto.INT64, ["rows", "time"]),
        ports("length", TensorProto.INT64, ["rows", 1]),
    ]


def _wires(model: ModelProto, params: Params) -> dict[str, str]:
    """The back's inputs -> the net's outputs."""
    import onnx

    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    names = _INPUTS.get(params.kind) or [
        name for name in ("boxes", "scores", "detections") if params.params.get(name)
    ]
    wires = {name: str(params.params[name]) for name in names}
    for name, output in wires.items():
        at = f"postprocess.{params.kind}.{name}"
        if output not in outputs:
            fix = did_you_mean(output, outputs)
            raise ModelError(f"{at}: the model has no output '{output}'; {fix}")
        kind = outputs[output]
        rank = len(kind.shape.dim) if kind.HasField("shape") else _RANKS[params.kind]
        if kind.elem_type != onnx.TensorProto.FLOAT or rank != _RANKS[params.kind]:
            element = onnx.TensorProto.DataType.Name(kind.elem_type)
            raise ModelError(
                f"{at}: '{output}' is {element} of {rank} dimensions, "
                f"not FLOAT of {_RANKS[params.kind]}; name another output"
            )
        sizes = [dim.dim_value for dim in kind.shape.dim] or [0] * rank
        if params.kind == "top_k" and 0 < sizes[1] < params.params["k"]:
            raise ModelError(f"postprocess.top_k.k: the model has {sizes[1]} classes; write fewer")
        if params.kind == "mask" and sizes[1] > 256:
            raise ModelError(f"{at}: {sizes[1]} classes do not fit into uint8; leave it out")
        if params.kind == "ctc" and 0 < sizes[2] <= params.params["blank"]:
            raise ModelError(f"postprocess.ctc.blank: the model has {sizes[2]} symbols, from 0 on")
    return wires


def _refuse_taken(model: ModelProto, back: ModelProto) -> None:
    made = {name for node in model.graph.node for name in node.output}
    made |= {value.name for value in model.graph.input}
    made |= {tensor.name for tensor in model.graph.initializer}
    for name in [value.name for value in back.graph.output]:
        if name in made:
            raise ModelError(f"postprocess: the model has a tensor '{name}' already; rename it")


def _join(model: ModelProto, back: ModelProto, wires: Mapping[str, str]) -> None:
    final = {value.name for value in back.graph.output}

    def named(name: str) -> str:
        return wires.get(name) or (name if name in final or not name else PREFIX + name)

    for node in back.graph.node:
        node.name = PREFIX + node.name
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]
    for tensor in back.graph.initializer:
        tensor.name = named(tensor.name)
    model.graph.node.extend(back.graph.node)
    model.graph.initializer.extend(back.graph.initializer)
    model.graph.output.extend(back.graph.output)


def decoded(best: Array, blank: int) -> tuple[Array, Array]:
    """Greedy CTC of the best symbols [n, time]: symbols, -1 behind the last, and how many."""
    symbols = np.full(best.shape, -1, np.int64)
    lengths = np.zeros((len(best), 1), np.int64)
    for row, line in enumerate(best):
        kept = [s for i, s in enumerate(line) if s != blank and (i == 0 or s != line[i - 1])]
        symbols[row, : len(kept)] = kept
        lengths[row] = len(kept)
    return symbols, lengths


def expected(params: Params, scores: Array) -> dict[str, Array]:
    """What the operators make of scores, in numpy; of equal scores the first is best."""
    said = params.params
    if params.kind == "mask":
        return {"mask": scores.argmax(axis=1).astype(np.uint8)}
    if params.kind == "ctc":
        by_row = scores.transpose(1, 0, 2) if said["layout"] == "time_first" else scores
        symbols, length = decoded(by_row.argmax(axis=2), said["blank"])
        return {"symbols": symbols, "length": length}
    if said["softmax"]:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : said["k"]]
    return {"class": best, "score": np.take_along_axis(scores, best, axis=1)}


def _proven(back: ModelProto, params: Params) -> int:
    """Rows that were compared; ModelError where an answer is another one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        back.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    classes = max(int(params.params.get("k", 0)), int(params.params.get("blank", 0)) + 1) + 4
    shape = {"top_k": (33, classes), "mask": (3, 5, 17, 9), "ctc": (7, 23, classes)}[params.kind]
    # Few different values, so that many are equal.
    scores = random.integers(-8, 9, shape).astype(np.float32) / 4
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"of": scores}), strict=True))
    for name, wanted in expected(params, scores).items():
        if found[name].shape != wanted.shape or not np.allclose(found[name], wanted, atol=1e-6):
            raise ModelError(f"postprocess: '{name}' as operators is not what numpy makes of it")
    return int(shape[0])
