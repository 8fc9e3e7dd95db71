"""How images become a model's input: from its shape and notes, and by trying on labelled images."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import RepoBuilderError
from repo_builder.data import images
from repo_builder.propose import measure
from repo_builder.propose.look import Look
from repo_builder.propose.tasks import Task, channels_last, image_input
from repo_builder.run import isolated

_TRIED = 100
"""Images that every way is tried on."""

_FLOATS = {"FP16": "float16", "BF16": "float32", "FP32": "float32", "FP64": "float64"}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_HALF = {"mean": [0.5], "std": [0.5]}
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "pixels / 255": {},
    "ImageNet's mean and std": _IMAGENET,
    "pixels from -1 to 1": _HALF,
    "pixels from 0 to 255": {"scale": 1.0},
    "BGR from 0 to 255 less ImageNet's mean, as Caffe": {
        "scale": 1.0, "color": "bgr", "mean": [103.939, 116.779, 123.68],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """`values` of a spec's `preprocess`, and in words where they come from.

    `certain`: noted by the exporter, or seen on labelled images; else from the shape alone.
    """

    values: Mapping[str, Any]
    why: str
    certain: bool = False


def of_shape(look: Look) -> Recipe | None:
    """What the input's shape and the exporter's notes say; None where it takes no images."""
    tensor = image_input(look.signature.inputs)
    if tensor is None:
        return None
    size = _size(tensor, look)
    if size is None:
        return None
    values = {**images.fitting(look.signature.inputs), "size": list(size)}
    if tensor.dtype not in _FLOATS:
        return Recipe({**values, "scale": 1.0}, "the input takes whole numbers")
    if look.metadata.get("task") == "detect" and "stride" in look.metadata:
        return Recipe({**values, "fit": "letterbox"}, "as Ultralytics does it", certain=True)
    return Recipe(values, "scale, mean and std are a guess: see how it was trained")


def _size(tensor: Tensor, look: Look) -> tuple[int, int] | None:
    """Height and width: fixed, noted, or those that ran."""
    axes = (1, 2) if channels_last(tensor) else (2, 3)
    noted = _literal(look.metadata.get("imgsz", ""))
    found = []
    for place, axis in enumerate(axes):
        size = tensor.shape[axis]
        if isinstance(size, str):
            name = size or f"{tensor.name}[{axis}]"
            size = look.sizes.get(name, 0)
            if isinstance(noted, list) and len(noted) == 2 and isinstance(noted[place], int):
                size = noted[place]
        found.append(size)
    return (found[0], found[1]) if all(found) else None


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return None


def names(look: Look) -> tuple[str, ...]:
    """The classes that the exporter noted, as Ultralytics does: `{0: 'person', ...}`; () else."""
    noted = _literal(look.metadata.get("names", ""))
    if not isinstance(noted, dict) or sorted(noted) != list(range(len(noted))):
        return ()
    return tuple(str(noted[number]) for number in range(len(noted)))


def choose(
    folder: Path,
    table: Mapping[str, str] | None,
    onnx: Path,
    look: Look,
    task: Task,
) -> Recipe:
    """The way that makes the model right most often on labelled images; else that of the shape.

    Tried only for a classifier with as many classes as the images have.
    """
    base = of_shape(look)
    assert base is not None  # noqa: S101 - the caller knows that it takes images
    dtype = look.signature.inputs[0].dtype
    if base.certain or task.kind != "scores" or dtype not in _FLOATS:
        return base
    some = images.some(folder, table, _TRIED)
    if len(some.classes) < 2 or len(some.classes) != task.classes:
        return base
    gray = base.values.get("color") == "gray"
    ways = {
        name: {**base.values, **_of_channels(way, gray=gray)}
        for name, way in _WAYS.items()
        if not gray or way in ({}, _HALF, {"scale": 1.0})
    }
    sets = [
        {str(values["input"]): some.apply(images.recipe(values), _FLOATS[dtype])}
        for values in ways.values()
    ]
    try:
        found = isolated.call(
            onnx, measure.accuracy, onnx, look.signature.inputs, sets, some.label, task.output
        )
    except RepoBuilderError:
        return base  # the check of all images tells what does not fit
    best = int(np.argmax(found))
    name, values = list(ways.items())[best]
    ranked = sorted(zip(found, ways, strict=True), key=lambda one: -one[0])
    told = ", ".join(f"{way} {share:.2f}" for share, way in ranked)
    count = len(some.label)
    if found[best] < min(2 / task.classes, 0.9):
        return Recipe(
            base.values, f"no way that was tried is right often, on {count} images: {told}"
        )
    also = "; several are right as often" if ranked[0][0] == ranked[1][0] else ""
    return Recipe(values, f"{name}, by accuracy on {count} images: {told}{also}", certain=True)


def _of_channels(way: Mapping[str, Any], *, gray: bool) -> dict[str, Any]:
    """Mean and std for one channel or three."""
    return {
        key: value * (1 if gray else 3) if key in ("mean", "std") and len(value) == 1 else value
        for key, value in way.items()
    }
