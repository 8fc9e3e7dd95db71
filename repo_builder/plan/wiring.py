"""Whether the stages of a pipeline fit together: names, types and shapes along every wire. Pure."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from repo_builder.base import detections
from repo_builder.base.artifact import Interface, TensorType
from repo_builder.base.errors import Problem, SpecError, did_you_mean
from repo_builder.plan import front
from repo_builder.spec.types import Pipeline, Source, Spec, Stage

ROWS = "rows"
"""The name of the dimension that all stages of ours share: one row for each image."""
_CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3}


@dataclass(frozen=True)
class KnownModels:
    """What a pipeline may use: the models of its target by name, what each file declares."""

    models: Mapping[str, Spec]
    interfaces: Mapping[Source, Interface | None]

    def interface(self, model: str) -> Interface | None:
        """What a model declares; None where there is no such model, or it cannot be read."""
        spec = self.models.get(model)
        return front.interface(spec, self.interfaces) if spec else None


def interface(stage: Stage, known: KnownModels) -> Interface | None:
    """The tensors of a stage; None where its model is unknown."""
    if stage.kind == "model":
        return known.interface(stage.of)
    return _OURS[stage.kind](stage, known)


def _preprocess(stage: Stage, known: KnownModels) -> Interface | None:
    spec = known.models.get(stage.of)
    if spec is None or spec.preprocess is None:
        return None
    recipe: Any = spec.preprocess.parameters
    channels = _CHANNELS[recipe["color"]]
    height, width = recipe["size"]
    nchw = recipe["layout"] == "NCHW"
    shape: tuple[int | str, ...]
    shape = (channels, height, width) if nchw else (height, width, channels)
    if spec.preprocess.in_graph:
        shape = front.shape(recipe)
    declared = known.interface(stage.of)
    taken = declared.inputs.get(recipe["input"]) if declared else None
    number = taken is not None and taken.dtype.startswith(("FP", "INT", "UINT"))
    otherwise = "UINT8" if spec.preprocess.in_graph else "FP32"
    image = TensorType(taken.dtype if taken and number else otherwise, (ROWS, *shape))
    outputs = {recipe["input"]: image, "to_image": TensorType("FP32", (ROWS, 4))}
    return Interface({"file": TensorType("STRING", (ROWS, 1))}, outputs)


def _nms(stage: Stage, _known: KnownModels) -> Interface:
    most: Any = stage.params["max_boxes"]
    inputs = {
        "boxes": TensorType("FP32", (ROWS, "boxes", 4)),
        "scores": TensorType("FP32", (ROWS, "boxes", "classes")),
    }
    if stage.params["layout"] == detections.LAYOUT:
        inputs = {"detections": TensorType("FP32", (ROWS, "4 + classes", "boxes"))}
    if "to_image" in stage.inputs:
        inputs["to_image"] = TensorType("FP32", (ROWS, 4))
    outputs = {
        "box": TensorType("FP32", (ROWS, most, 4)),
        "score": TensorType("FP32", (ROWS, most)),
        "class": TensorType("INT64", (ROWS, most)),
        "count": TensorType("INT64", (ROWS, 1)),
    }
    return Interface(inputs, outputs)


def _top_k(stage: Stage, _known: KnownModels) -> Interface:
    k: Any = stage.params["k"]
    labels: Any = stage.params["labels"]
    outputs = {
        "label": TensorType("STRING", (ROWS, k)),
        "score": TensorType("FP32", (ROWS, k)),
        "class": TensorType("INT64", (ROWS, k)),
    }
    return Interface({"scores": TensorType("FP32", (ROWS, len(labels)))}, outputs)


_OURS = {"preprocess": _preprocess, "nms": _nms, "top_k": _top_k}


def check(pipelines: Iterable[tuple[Pipeline, KnownModels]]) -> None:
    """SpecError with all problems of all pipelines, where any does not fit together."""
    problems: set[Problem] = set()
    for pipeline, known in pipelines:
        problems.update(_stages(pipeline, known))
        problems.update(_cycle(pipeline))
        problems.update(_wires(pipeline, known))
        problems.update(_outputs(pipeline, known))
        problems.update(_unread(pipeline))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        ordered = sorted(problems, key=lambda p: (p.file, p.line, p.field, p.what))
        raise SpecError(f"the pipelines have {count}:", ordered)


def order(pipeline: Pipeline) -> list[str]:
    """The stages, each after those that it reads; graphlib.CycleError where there is none."""
    needs = {
        stage.name: {source for source, _ in stage.inputs.values() if source in pipeline.stages}
        for stage in pipeline.stages.values()
    }
    return list(graphlib.TopologicalSorter(needs).static_order())


def _stages(pipeline: Pipeline, known: KnownModels) -> Iterator[Problem]:
    say = pipeline.document.problem
    for name, stage in pipeline.stages.items():
        at = ("steps", name, stage.kind)
        if stage.of and stage.of not in known.models:
            what = f"there is no model '{stage.of}' for {pipeline.target}"
            yield say(at, what, did_you_mean(stage.of, known.models))
        elif stage.kind == "preprocess" and known.models[stage.of].preprocess is None:
            fix = f"write one in {known.models[stage.of].file}"
            yield say(at, f"the spec of '{stage.of}' has no `preprocess`", fix)
        if pipeline.part(name) in known.models:
            what = f"a model is called '{pipeline.part(name)}', as this step would be"
            yield say(("steps", name), what, "rename the step")
    if pipeline.name in known.models:
        yield say(("name",), f"a model is called '{pipeline.name}' too", "rename one of them")


def _cycle(pipeline: Pipeline) -> Iterator[Problem]:
    try:
        order(pipeline)
    except graphlib.CycleError as failure:
        circle: list[str] = failure.args[1][:0:-1]
        first = circle.index(min(circle, key=list(pipeline.stages).index))
        circle = circle[first:] + circle[: first + 1]
        what = f"these steps wait for each other: {', '.join(circle)}"
        yield pipeline.document.problem(("steps", circle[0], "inputs"), what, "cut one wire")


def _wires(pipeline: Pipeline, known: KnownModels) -> Iterator[Problem]:
    """Both ends of every wire into a stage are there, and agree."""
    say = pipeline.document.problem
    first: dict[str, tuple[str, TensorType]] = {}
    for name, stage in pipeline.stages.items():
        ends = interface(stage, known)
        if ends and (hint := _other_layout(pipeline, known, stage, ends)):
            yield hint
            continue
        for tensor, (source, output) in stage.inputs.items():
            at = ("steps", name, "inputs", tensor)
            here = ends.inputs.get(tensor) if ends else None
            if ends and here is None:
                what = f"'{name}' ({_describe(stage)}) has no input '{tensor}'"
                yield say(at, what, did_you_mean(tensor, ends.inputs))
            there, problem = _writer(pipeline, known, source, output)
            if problem:
                yield say(at, *problem)
            if not source and here:
                end, there = first.setdefault(output, (f"{name}.{tensor}", here))
                if not here.fits(there):
                    both = _both(" and ", end, there, f"{name}.{tensor}", here)
                    yield say(at, f"{both} both read '{output}'", "give them inputs of their own")
            elif here and there and not there.fits(here):
                what = _both(" -> ", f"{source}.{output}", there, f"{name}.{tensor}", here)
                yield say(at, what, "make both ends equal")
            elif there and tensor == "detections" and (why := detections.wrong(there.shape)):
                fix = "write the output [n, 4 + classes, boxes] of a detector"
                yield say(at, f"'{source}.{output}' {why}", fix)
        for tensor in sorted(set(ends.inputs) - set(stage.inputs)) if ends else ():
            what = f"the input '{tensor}' of '{name}' comes from nowhere"
            yield say(("steps", name, "inputs"), what, f"write `{tensor}: STEP.OUTPUT`")


def _other_layout(
    pipeline: Pipeline, known: KnownModels, stage: Stage, ends: Interface
) -> Problem | None:
    """That separate boxes and scores are asked of a detector which gives both in one output."""
    if stage.kind != "nms" or stage.params["layout"] == detections.LAYOUT:
        return None
    for tensor, (source, output) in stage.inputs.items():
        there, _ = _writer(pipeline, known, source, output)
        here = ends.inputs.get(tensor)
        fits = there is None or (here is not None and there.fits(here))
        if not fits and there and detections.looks_like(there.shape):
            end = f"{source}.{output}"
            what = (
                f"{end} {_port(there, True)} looks like boxes and scores in one, as of Ultralytics"
            )
            fix = f"write `nms: {{layout: {detections.LAYOUT}}}` and `detections: {end}`"
            return pipeline.document.problem(("steps", stage.name, "inputs", tensor), what, fix)
    return None


def _outputs(pipeline: Pipeline, known: KnownModels) -> Iterator[Problem]:
    say = pipeline.document.problem
    for tensor, (source, output) in pipeline.outputs.items():
        at = ("outputs", tensor)
        _, problem = _writer(pipeline, known, source, output)
        if problem:
            yield say(at, *problem)
        elif not source:
            yield say(at, f"'{output}' is an input, not what a step makes", "write `STEP.OUTPUT`")


def _writer(
    pipeline: Pipeline, known: KnownModels, source: str, output: str
) -> tuple[TensorType | None, tuple[str, str] | None]:
    """What writes a tensor; or what is wrong about it and what to write instead."""
    if not source:
        if output in pipeline.inputs:
            return None, None
        steps = [name for name in pipeline.stages if name == output]
        fix = f"write `{steps[0]}.OUTPUT`" if steps else did_you_mean(output, pipeline.inputs)
        return None, (f"the pipeline has no input '{output}'", fix)
    if source not in pipeline.stages:
        return None, (f"there is no step '{source}'", did_you_mean(source, pipeline.stages))
    stage = pipeline.stages[source]
    ends = interface(stage, known)
    if ends and output not in ends.outputs:
        what = f"'{source}' ({_describe(stage)}) has no output '{output}'"
        return None, (what, did_you_mean(output, ends.outputs))
    return (ends.outputs[output] if ends else None), None


def _unread(pipeline: Pipeline) -> Iterator[Problem]:
    """Triton refuses an ensemble with a tensor that nothing reads."""
    wires = [wire for stage in pipeline.stages.values() for wire in stage.inputs.values()]
    read = {*wires, *pipeline.outputs.values()}
    for i, name in enumerate(pipeline.inputs):
        if ("", name) not in read:
            yield pipeline.document.problem(("inputs", i), f"no step reads '{name}'", "remove it")
    for name in pipeline.stages:
        if name not in {source for source, _ in read}:
            what = f"nothing reads what '{name}' makes"
            yield pipeline.document.problem(("steps", name), what, "remove it, or give it out")
    given: dict[tuple[str, str], str] = {}
    for name, wire in pipeline.outputs.items():
        if given.setdefault(wire, name) != name:
            what = f"'{'.'.join(wire)}' is given out as '{given[wire]}' already"
            yield pipeline.document.problem(("outputs", name), what, "keep one")


def _describe(stage: Stage) -> str:
    return f"the model '{stage.of}'" if stage.kind == "model" else stage.kind


def _both(between: str, one: str, a: TensorType, other: str, b: TensorType) -> str:
    """`decode.image FP32 [3,8,8] -> read.image FP32 [1,8,8]`, without rows where both have them."""
    rows = all(p.shape and isinstance(p.shape[0], str) for p in (a, b))
    return between.join(f"{end} {_port(port, rows)}" for end, port in ((one, a), (other, b)))


def _port(port: TensorType, rows: bool) -> str:
    if port.shape is None:
        return port.dtype
    sizes = [str(size) if isinstance(size, int) else size or "?" for size in port.shape]
    return f"{port.dtype} [{','.join(sizes[rows:])}]"
