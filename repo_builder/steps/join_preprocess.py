"""`join-preprocess`: a net with its spec's `preprocess` in front, so that it takes uint8 images.

What is joined is compared with the recipe itself, as client and stages run it with Pillow, on
images of several sizes: see `LIMITS`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import MissingExtra, ModelError, did_you_mean
from repo_builder.client.models.preprocess import Preprocess
from repo_builder.introspect import walk
from repo_builder.plan.front import PREFIX
from repo_builder.steps import _image_front, _in_front, _onnx

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

LIMITS = {"bilinear": 1.0, "bicubic": 6.0, "nearest": 0.0}
"""The largest difference of a pixel from Pillow's, in its 255 steps.

Pillow rounds to 8 bits between rows and columns, and cuts off what a cubic overshoots there; the
operators round once, at the end.
"""
MEAN_LIMIT = 0.5
"""The same on average."""
_ROUNDING = 1e-3
"""What arithmetic in float32 may add, in the same steps."""


@dataclass(frozen=True)
class Params:
    """`recipe`: fields of `Preprocess`; `cast_first`: see `_image_front.front`."""

    recipe: Mapping[str, Any]
    cast_first: bool


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with the net's `model.onnx` and its external data."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """How far the operators lie from Pillow on the images tried, in steps of 255: see `LIMITS`."""

    largest: float
    mean: float
    images: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx`, whose input of the same name is uint8 [n, height, width, channels].

    ModelError: no such input, one that takes no images of the recipe's size, an opset that cannot
    be raised, or operators that answer otherwise than the recipe.
    """
    import onnx

    recipe = Preprocess.from_json(json.dumps(params.recipe))
    model = _onnx.load(inputs.model)
    _onnx.fix_weights(model)
    taken = _input(model, recipe)
    if walk.opset(model) < _image_front.OPSET:
        model = _onnx.raised(model, _image_front.OPSET, "preprocess: {place: outside}")
        taken = _input(model, recipe)
    facts = _proven(recipe, cast_first=params.cast_first)
    element = taken.type.tensor_type.elem_type
    made, last = _image_front.front(recipe, taken.name, element, cast_first=params.cast_first)
    sizes = (*(recipe.source or ("image_height", "image_width")), recipe.channels)
    _in_front.put(model, taken, made, last, onnx.TensorProto.UINT8, sizes)
    _onnx.save(model, out)
    onnx.checker.check_model(out / _onnx.MODEL)
    return facts


def _input(model: ModelProto, recipe: Preprocess) -> ValueInfoProto:
    """The net's input that takes the image; ModelError where there is none that fits."""
    import onnx

    inputs = {value.name: value for value in model.graph.input}
    if recipe.input not in inputs:
        raise ModelError(
            f"preprocess.input: the model has no input '{recipe.input}'; "
            f"{did_you_mean(recipe.input, inputs)}"
        )
    found = inputs[recipe.input]
    kind = found.type.tensor_type
    element = onnx.TensorProto.DataType.Name(kind.elem_type)
    dims = [d.dim_value or d.dim_param or "?" for d in kind.shape.dim]
    wanted = (*recipe.size, recipe.channels)
    if recipe.layout == "NCHW":
        wanted = (recipe.channels, *recipe.size)
    fits = len(dims) == 4 and all(
        isinstance(size, str) or size == want for size, want in zip(dims[1:], wanted, strict=True)
    )
    if not fits or element in ("STRING", "BOOL"):
        raise ModelError(
            f"preprocess: '{recipe.input}' of the model is {element} {dims}, which takes no images "
            f"of {recipe.layout} {list(wanted)}; correct `size`, `color` or `layout`"
        )
    _in_front.refuse_names(model, PREFIX, recipe.input)
    return found


def _proven(recipe: Preprocess, *, cast_first: bool) -> Facts:
    """The operators alone beside the recipe; ModelError where they are too far apart."""
    import onnx
    import onnxruntime
    from onnx import helper

    front, last = _image_front.front(recipe, recipe.input, 1, cast_first=cast_first)
    dims = [1, *(recipe.source or ("height", "width")), recipe.channels]
    graph = helper.make_graph(
        front.nodes,
        "preprocess",
        [helper.make_tensor_value_info(recipe.input, onnx.TensorProto.UINT8, dims)],
        [helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, [None] * 4)],
        front.constants,
    )
    opset = helper.make_opsetid("", _image_front.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    scale = np.asarray(recipe.std or 1.0) / abs(recipe.scale)
    largest, means = 0.0, []
    for image in _images(recipe):
        try:
            sent, _ = recipe.sent(image)
            wanted = recipe.apply(image)
        except ModuleNotFoundError:
            raise MissingExtra("build", "reading images") from None
        found = session.run(None, {recipe.input: sent})[0]
        if found.shape != wanted.shape:
            raise ModelError(f"preprocess: operators made {found.shape} of {wanted.shape}")
        apart = np.abs(found - wanted)
        if recipe.layout == "NCHW":
            apart = apart.transpose(0, 2, 3, 1)
        steps = apart * np.abs(scale)
        largest = max(largest, float(steps.max()))
        means.append(float(steps.mean()))
    limit = (0.0 if recipe.source == recipe.size else LIMITS[recipe.resize]) + _ROUNDING
    mean = max(means)
    if largest > limit or mean > MEAN_LIMIT:
        raise ModelError(
            f"preprocess: as operators it differs from Pillow by {largest:.3g} of 255, on average "
            f"{mean:.3g}; at most {limit:.3g} and {MEAN_LIMIT} are allowed: write `place: outside`"
        )
    return Facts(round(largest, 3), round(mean, 4), len(means))


def _images(recipe: Preprocess) -> Iterator[npt.NDArray[np.uint8]]:
    """Noise over soft shapes, the same every time, in RGB or gray."""
    random = np.random.default_rng(0)
    height, width = recipe.size
    sizes = [recipe.source] if recipe.source else [
        (height, width),
        (2 * height + 1, 3 * width - 1),
        (height * 3 // 2 + 7, width),
        (max(height // 2, 2), max(width * 2 // 3, 2)),
    ]  # fmt: skip
    for rows, columns in sizes:
        shape = (rows, columns) if recipe.channels == 1 else (rows, columns, 3)
        y, x = np.mgrid[:rows, :columns]
        soft = 127 + 100 * np.sin(x / 37 + y / 23)
        soft = soft if recipe.channels == 1 else soft[..., None] * np.array([1.0, 0.8, 0.6])
        noise = random.integers(-60, 61, shape)
        yield np.clip(soft + noise, 0, 255).astype(np.uint8)
