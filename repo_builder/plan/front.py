"""Models that take images: a recipe of `preprocess` joined in front of the net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repo_builder.base.artifact import Interface, TensorType
from repo_builder.plan import back
from repo_builder.spec.ends import Signal
from repo_builder.spec.types import Source, Spec

PREFIX = "/preprocess/"
"""What the names of all nodes and tensors of a front begin with."""


SIGNAL_PREFIX = "/signal/"
"""The same of a front that takes samples."""


def of(spec: Spec) -> dict[str, Any] | None:
    """The recipe that the model of a spec begins with; None where it is its net alone."""
    found = spec.preprocess
    return dict(found.parameters) if found is not None and found.in_graph else None


def interface(spec: Spec, declared: Mapping[Source, Interface | None]) -> Interface | None:
    """What the built model takes and gives; None where its file cannot be read."""
    net, recipe = declared.get(spec.source), of(spec)
    if net is None:
        return None
    if spec.postprocess is not None:
        net = Interface(net.inputs, back.given_out(spec, net.outputs))
    if spec.signal is not None:
        net = Interface(_samples(spec.signal, net.inputs), net.outputs)
    if recipe is None or recipe["input"] not in net.inputs:
        return net
    taken = net.inputs[recipe["input"]]
    rows = taken.shape[0] if taken.shape else "rows"
    image = TensorType("UINT8", (rows, *shape(recipe)))
    return Interface({**net.inputs, recipe["input"]: image}, net.outputs)


def _samples(signal: Signal, inputs: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """The inputs of a model that takes samples."""
    said: Any = signal.params
    taken = inputs.get(said["input"])
    if taken is None:
        return dict(inputs)
    rows = taken.shape[0] if taken.shape else "rows"
    channels = (said["channels"],) if signal.kind == "sensor" else ()
    dtype = "INT16" if said["dtype"] == "int16" else "FP32"
    return {**inputs, said["input"]: TensorType(dtype, (rows, said["samples"], *channels))}


def shape(recipe: Mapping[str, Any]) -> tuple[int | str, int | str, int]:
    """Height, width and channels of the images; a size that is open is a name."""
    height, width = recipe["source"] or ("image_height", "image_width")
    return height, width, 1 if recipe["color"] == "gray" else 3


def excluded(spec: Spec) -> list[str]:
    """Globs of nodes that are not quantized: pixels are integers already."""
    globs = [f"{PREFIX}*"] if of(spec) else []
    return [*globs, f"{SIGNAL_PREFIX}*"] if spec.signal is not None else globs
