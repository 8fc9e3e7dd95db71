"""The spec as text: short, commented, every claim with where it comes from."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base import templates
from repo_builder.base.artifact import Tensor
from repo_builder.introspect import states
from repo_builder.introspect.samples import axis_name
from repo_builder.propose import recipes, usable
from repo_builder.propose.fits import Chosen, Fits, quantizable
from repo_builder.propose.look import Look
from repo_builder.propose.recipes import Recipe
from repo_builder.propose.request import Request
from repo_builder.propose.tasks import Task
from repo_builder.propose.usable import Usable
from repo_builder.spec.metrics import IN_POINTS, REQUIRES
from repo_builder.spec.resolve_source import TORCH_TYPES

_WIDTH = 110
_NAME = 24
"""The longest name of a dimension that is told; exporters also write whole formulas."""

_NAMES = 8
"""Classes that a comment names."""


@dataclass(frozen=True)
class Parts:
    """All that was found. `used`: images were made into inputs by `recipe`."""

    request: Request
    look: Look
    task: Task
    data: Usable
    fits: Fits
    chosen: Chosen
    labels: Path | None
    recipe: Recipe | None
    used: bool


def spec(parts: Parts) -> str:
    """The text of the spec file."""
    signature, request = parts.look.signature, parts.request
    active = parts.recipe is not None and (parts.used or parts.recipe.certain)
    sized = active or parts.data.calibration is not None or parts.data.evaluation is not None
    return templates.load("spec.yaml.j2", strip_blocks=True).render(
        name=scalar(request.name),
        file=request.spec,
        source="\n".join(_source(request)),
        signature=signature,
        found=list(_found(parts)),
        targets=_targets(parts.chosen.targets),
        others=list(_others(parts)),
        overrides=parts.chosen.others,
        precision=parts.chosen.precision,
        precision_more=_precision_more(parts),
        sizes=_flow({} if sized else _sizes(parts.look)),
        sizes_of_data=_flow(_sizes(parts.look)) if sized and not active else "",
        data=parts.data,
        kinds=list(_data(parts)),
        evaluation=_evaluation(parts),
        inputs=", ".join(scalar(tensor.name) for tensor in signature.inputs),
        points=parts.data.measured.metric in IN_POINTS,
        fallback=_fallback(parts),
        detections=parts.task.output if parts.task.kind == "detector" else "",
        preprocess=_flow(_recipe(parts.recipe)) if parts.recipe else "",
        preprocess_why=_wrapped(f"How an image becomes the input: {parts.recipe.why}.")
        if parts.recipe
        else [],
        active=active,
        scores=scalar(parts.task.output),
        labels=scalar(_relative(parts.labels, request)) if parts.labels else "",
    )


def _source(request: Request) -> Iterator[str]:
    """The lines of `source`."""
    net = request.net
    if net is None:
        yield f"source: {{onnx: {scalar(_relative(request.onnx, request))}}}"
        return
    yield "source:"
    yield "  torch:                  # your code, which the build runs and exports: docs/specs.md"
    yield f"    factory: {scalar(f'{_relative(net.file, request)}:{net.function}')}"
    if net.kwargs:
        yield f"    kwargs: {_flow(net.kwargs)}"
    if net.weights:
        yield f"    weights: {scalar(_relative(net.weights, request))}"
    yield f"    inputs: {_flow({t.name: _typed(t) for t in net.inputs})}"
    yield f"    outputs: {_flow(net.outputs)}"
    if not net.batch:
        yield "    batch: false"


def _typed(tensor: Tensor) -> object:
    """An input of a PyTorch net: its shape, with its type where that is no float32."""
    dtype = TORCH_TYPES[tensor.dtype]
    shape = list(tensor.shape)
    return shape if dtype == "float32" else {"shape": shape, "dtype": dtype}


def _relative(path: Path, request: Request) -> str:
    return Path(os.path.relpath(path, request.spec.parent)).as_posix()


def _found(parts: Parts) -> Iterator[str]:
    """What is told of the model, a comment a line."""
    signature = parts.look.signature
    for side, tensors in (("input ", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            yield f"{side} {scalar(tensor.name)}: {tensor.dtype} {_shape(tensor)}"
    yield from signature.mended
    if parts.task.what:
        yield f"{scalar(parts.task.output)}: {parts.task.what}"
    if parts.task.label:
        yield f"{scalar(parts.task.label)}: the class itself, beside its scores"
    if noted := recipes.names(parts.look):
        some = ", ".join(f"{number} {name}" for number, name in enumerate(noted[:_NAMES]))
        yield f"classes, as its exporter noted: {some}{', ...' if len(noted) > _NAMES else ''}"
    if parts.look.has_scales:
        yield "it is quantized already: int8 needs no calibration data"
    for given, made in states.pairs(signature.inputs, signature.outputs).items():
        yield (
            f"state: what {scalar(made)} gives, {scalar(given)} takes in the next call"
            " (client.sequence)"
        )
    if signature.batched:
        yield "dimension 0 is a batch: the same rows came out alone and together"
    else:
        yield f"no batching: {signature.why_not_batched}"


def _targets(names: Sequence[str]) -> str:
    return "\n  ".join(textwrap.wrap(f"[{', '.join(names)}]", _WIDTH, break_on_hyphens=False))


def _precision_more(parts: Parts) -> str:
    """What else `precision` could be."""
    if parts.chosen.precision != "fp32":
        return ""
    if not parts.look.has_scales and not quantizable(parts.look.contents):
        return "         # int8 would find nothing to quantize"
    if parts.data.calibration is not None:
        return "         # or int8, smaller and mostly faster: there is calibration data"
    if parts.look.has_scales:
        return "         # or int8, with the scales that the model has"
    return "         # or int8 (needs data.calibration); fp16 where the target has it"


def _others(parts: Parts) -> Iterator[str]:
    """The targets that are not chosen: which can, which could, which cannot and why."""
    rest = [name for name in parts.fits.able if name not in parts.chosen.targets]
    if rest:
        yield from _wrapped(f"It can also be built for {', '.join(rest)}.")
    if parts.fits.after_data:
        yield from _wrapped(f"With calibration data, for {', '.join(parts.fits.after_data)}.")
    for reason, names in parts.fits.not_able.items():
        yield from _wrapped(f"Not for {', '.join(names)}: {reason.split(' (')[0]}.")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _data(parts: Parts) -> Iterator[str]:
    """The lines below `data:` for the files that fit."""
    data, request = parts.data, parts.request
    if data.calibration is not None:
        path = scalar(_relative(data.calibration, request))
        yield f"calibration: {{path: {path}, samples: {data.samples}}}"
    if data.evaluation is not None:
        measured = data.measured
        path = scalar(_relative(data.evaluation, request))
        labels = {role: name for role, name in measured.labels.items() if role != name}
        more = f", labels: {_flow(labels)}" if labels else ""
        outputs = f", outputs: {_flow(measured.outputs)}" if measured.outputs else ""
        yield f"evaluation: {{path: {path}, metric: {measured.metric}{more}{outputs}}}"
        yield f"# {usable.score(data)}"
    if data.confidence is not None:
        yield f"confidence: {{path: {scalar(_relative(data.confidence, request))}}}"


def _evaluation(parts: Parts) -> str:
    """The evaluation that a comment proposes, "" where one is there or none comes to mind."""
    if parts.data.evaluation is not None:
        return ""
    if not parts.task.metrics:
        own = "{path: evaluation.npz, metric: own, own: {file: score.py}}"
        return f"evaluation: {own}    # which metric fits was not found: docs/specs.md"
    metric = parts.task.metrics[0]
    outputs = parts.task.outputs(metric)
    needs = REQUIRES[metric]
    arrays = ", ".join((*needs.labels, *needs.constants))
    body = f"{{path: evaluation.npz, metric: {metric}, outputs: {_flow(outputs)}}}"
    return f"evaluation: {body}    # arrays: {arrays}"


def _fallback(parts: Parts) -> str:
    """What `fallback` could say, "" for models that it has nothing to read of."""
    task = parts.task
    if task.kind == "detector":
        said = {"policy": "max_score", "output": task.output, "layout": "ultralytics"}
        return _flow({**said, "threshold": 0.5})
    if task.kind != "scores" or task.classes < 2:
        return ""
    sure = {"max_error": 0.02, "output": task.output, "activation": task.activation}
    return _flow({**sure, "cloud": f"{parts.request.name}-large"})


def _recipe(recipe: Recipe) -> Mapping[str, Any]:
    return {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in recipe.values.items()
    }


def _sizes(look: Look) -> dict[str, object]:
    """What `sizes` would say: open dimensions by name, whole inputs where one has no name."""
    sizes: dict[str, object] = {}
    for tensor in look.signature.inputs:
        skipped: list[object] = [None] if look.signature.batched else []
        ran = [
            size if isinstance(size, int) else look.sizes.get(axis_name(tensor, axis), 1)
            for axis, size in enumerate(tensor.shape)
        ]
        named = [
            (size, ran[axis])
            for axis, size in enumerate(tensor.shape)
            if isinstance(size, str) and axis >= len(skipped)
        ]
        if all(name for name, _ in named):
            sizes.update({str(name): size for name, size in named})
        else:
            sizes[tensor.name] = [*skipped, *ran[len(skipped) :]]
    return sizes


def _flow(value: object) -> str:
    """A value in YAML's flow style; "" for an empty mapping."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{scalar(str(key))}: {_flow(item)}" for key, item in value.items())
        return f"{{{inner}}}" if value else ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        return scalar(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _shape(tensor: Tensor) -> str:
    sizes = [str(size) or "?" for size in tensor.shape]
    return f"[{', '.join(size if len(size) <= _NAME else '?' for size in sizes)}]"


def scalar(text: str) -> str:
    """As a YAML scalar on one line: quoted where a plain one would mean something else."""
    import yaml

    plain = re.fullmatch(r"[A-Za-z0-9_./-]+", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text)
