"""The sizes at which a model with open dimensions is run, measured, and compiled. Pure.

A name as of `introspect.signature`: `h`, or `x[2]` for a dimension that has no name in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from repo_builder.base.artifact import Interface
from repo_builder.base.digest import Json
from repo_builder.base.errors import Problem, SpecError, did_you_mean
from repo_builder.plan import front
from repo_builder.plan.types import Pins
from repo_builder.spec.types import Spec

DEFAULT_MAX_BATCH = 16
"""The largest batch of an engine's profile, where the spec names none."""

Place = tuple[str, int]
"""An input and the number of one of its dimensions."""


def of(spec: Spec, pins: Pins, *, static: bool) -> dict[str, int]:
    """The sizes of open dimensions: what the spec says, else its image, else its data.

    Of dimension 0, which is mostly the batch, only what is said of it, or where every entry of the
    data is a whole input. With `static` a dimension that is called as another input's dimension 0
    is 1, since a toolchain that takes one shape gets a batch of 1. SpecError where the spec's
    `sizes` do not fit the model.
    """
    interface = front.interface(spec, pins.interfaces)
    if interface is None:
        return {}
    names = _open(interface)
    _check(spec, interface, names)
    found: dict[str, int] = {}
    for place, size in _candidates(spec, pins, interface):
        if place in names:
            found.setdefault(names[place], size)
    if static:
        batch = {name for (_, axis), name in names.items() if axis == 0}
        for (_, axis), name in names.items():
            if axis > 0 and name in batch:
                found.setdefault(name, 1)
    return found


def _open(interface: Interface) -> dict[Place, str]:
    """Every dimension of an input without a fixed size, and its name."""
    return {
        (name, axis): str(size) if isinstance(size, str) and size else f"{name}[{axis}]"
        for name, port in interface.inputs.items()
        for axis, size in enumerate(port.shape or ())
        if isinstance(size, str) or size <= 0
    }


def _candidates(spec: Spec, pins: Pins, interface: Interface) -> Iterator[tuple[Place, int]]:
    """Sizes by place, the strongest word first."""
    for name, said in spec.sizes.items():
        if isinstance(said, int):
            yield from ((place, said) for place, known in _open(interface).items() if known == name)
        else:
            yield from (((name, axis), size) for axis, size in enumerate(said) if size)
    if spec.preprocess is not None:
        yield from _image(spec.preprocess.parameters)
    for data in (spec.evaluation, spec.calibration):
        arrays = pins.arrays.get(data.path, {}) if data else {}
        for name, port in interface.inputs.items():
            shape, rank = arrays.get(name), len(port.shape or ())
            if shape is None or not rank:
                continue
            if len(shape) == rank:
                yield from (((name, axis), shape[axis]) for axis in range(1, rank))
            elif len(shape) == rank + 1:
                yield from (((name, axis), shape[axis + 1]) for axis in range(rank))


def _image(recipe: Mapping[str, Any]) -> Iterator[tuple[Place, int]]:
    """What `preprocess` makes of every image."""
    height, width = recipe.get("source") or recipe["size"]
    channels = 1 if recipe["color"] == "gray" else 3
    first = recipe["layout"] == "NCHW" and recipe.get("place") != "graph"
    shape = (channels, height, width) if first else (height, width, channels)
    yield from (((recipe["input"], axis), size) for axis, size in enumerate(shape, 1))


def _check(spec: Spec, interface: Interface, names: Mapping[Place, str]) -> None:
    """SpecError with every key of `sizes` that the model does not have, or that it contradicts."""
    problems = []

    def say(key: str, what: str, fix: str) -> None:
        problems.append(Problem(what, fix, str(spec.file), 0, f"sizes.{key}"))

    for key, said in spec.sizes.items():
        if isinstance(said, int):
            if key not in names.values():
                what = f"the model has no open dimension '{key}'"
                say(key, what, did_you_mean(key, sorted(set(names.values()))))
            continue
        port = interface.inputs.get(key)
        if port is None:
            say(key, f"the model has no input '{key}'", did_you_mean(key, interface.inputs))
        elif port.shape is None or len(port.shape) != len(said):
            shape = f"{len(port.shape or ())} dimensions, {list(port.shape or ())}"
            say(key, f"{len(said)} sizes for an input of {shape}", "write one for each, or null")
        else:
            for axis, (had, size) in enumerate(zip(port.shape, said, strict=True)):
                if size and isinstance(had, int) and 0 < had != size:
                    what = f"dimension {axis} of the input is fixed at {had}, not {size}"
                    say(key, what, f"write {had} or null")
    if problems:
        raise SpecError(f"the sizes of '{spec.name}' do not fit its model:", problems)


def batches(spec: Spec) -> list[Json]:
    """The least, best and largest batch of the plan's profile, by what is to be served.

    Best is the largest preferred batch of the spec, else what the objective makes common.
    """
    serving = spec.serving
    largest = serving.max_batch_size or DEFAULT_MAX_BATCH
    if spec.optimize.tensorrt.dla_core is not None:  # DLA takes one batch size
        largest = 1
    batching: Any = serving.config.get("dynamic_batching") or {}
    common = 1 if serving.objective == "latency" else largest
    best = max(batching.get("preferred_batch_size") or [common])
    return [1, min(best, largest), largest]
