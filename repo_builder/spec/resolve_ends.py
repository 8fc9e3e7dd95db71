"""What a model does at the ends of its net: whether it can be done, and on this target."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from repo_builder.client.models.preprocess import Preprocess
from repo_builder.spec import ends
from repo_builder.spec.raw import RawPreprocess
from repo_builder.spec.raw_postprocess import RawPostprocess
from repo_builder.spec.raw_signal import RawSignal
from repo_builder.targets import Target

_TAKES_IMAGES = ("onnxruntime", "openvino", "tensorrt")
"""Runtimes whose models may begin with a recipe; others are compiled to integers as a whole."""


def resolve(
    raw: RawPreprocess | None, target: Target, problem: Callable[[tuple[str, ...], str, str], None]
) -> ends.Preprocess | None:
    """The recipe; what is wrong with it goes to `problem`."""
    if raw is None:
        return None
    values: dict[str, Any] = raw.model_dump()
    if raw.place == "outside":  # so that a config says no more than older clients read
        del values["place"], values["source"]
    try:
        Preprocess.from_json(json.dumps(values))
    except ValueError as failure:
        what = str(failure)
        problem(("preprocess",), what.removeprefix("preprocess."), "see docs/preprocessing.md")
    if raw.place == "graph":
        _check_graph(raw, target, problem)
    elif raw.source is not None:
        what = "says what the model takes; here it takes its net's own input"
        problem(("preprocess", "source"), what, "write `place: graph`, or leave it out")
    return ends.Preprocess(values)


def _check_graph(
    raw: RawPreprocess, target: Target, problem: Callable[[tuple[str, ...], str, str], None]
) -> None:
    at = ("preprocess", "place")
    if target.runtime not in _TAKES_IMAGES:
        what = f"a model for {target.name} takes what its net takes, no images"
        other = "{preprocess: {place: outside, source: null}}"
        fix = f"write `overrides: {{{target.name}: {other}}}`"
        problem(at, what, fix)
        return
    other_device = target.openvino is not None and target.openvino.device != "CPU"
    if (other_device or target.runtime == "tensorrt") and raw.source is None:
        what = f"{target.name} takes images of one size only"
        problem(("preprocess",), what, "add `source: [height, width]`: what the camera gives")
    if raw.resize == "nearest" and raw.source != raw.size:
        what = "no operators take the same nearest pixels as Pillow does"
        problem(("preprocess", "resize"), what, "write `bilinear`, or `source` as `size`")


def answers(
    raw: RawPostprocess | None, target: Target, problem: Callable[[tuple[str, ...], str, str], None]
) -> ends.Postprocess | None:
    """What the model makes of its outputs; what a target cannot goes to `problem`."""
    if raw is None:
        return None
    on_cpu = target.runtime == "onnxruntime" or (
        target.openvino is not None and target.openvino.device == "CPU"
    )
    if not on_cpu:
        fix = f"write `overrides: {{{target.name}: {{postprocess: null}}}}`"
        what = f"a model for {target.name} gives out what its net does"
        problem(("postprocess",), what, fix)
    values: dict[str, Any] = raw.model_dump(exclude_none=True)
    keep = tuple(values.pop("keep"))
    kinds: tuple[ends.AnswerKind, ...] = ("top_k", "mask", "ctc", "nms")
    kind = next(kind for kind in kinds if kind in values)
    return ends.Postprocess(kind, values[kind], keep)


def signal(
    raw: RawSignal | None, target: Target, problem: Callable[[tuple[str, ...], str, str], None]
) -> ends.Signal | None:
    """What the model makes of samples; what a target cannot goes to `problem`."""
    if raw is None:
        return None
    fix = f"write `overrides: {{{target.name}: {{signal: null}}}}`"
    if target.runtime not in _TAKES_IMAGES:
        what = f"a model for {target.name} takes what its net takes, no samples"
        problem(("signal",), what, fix)
    if raw.log_mel is not None:
        if target.runtime == "tensorrt" and raw.log_mel.dtype == "int16":
            what = "TensorRT takes no int16"
            problem(("signal", "log_mel", "dtype"), what, "write float32")
        return ends.Signal("log_mel", raw.log_mel.model_dump())
    assert raw.sensor is not None  # noqa: S101 - one of both is there
    if target.runtime == "tensorrt" and raw.sensor.dtype == "int16":
        problem(("signal", "sensor", "dtype"), "TensorRT takes no int16", "write float32")
    return ends.Signal("sensor", raw.sensor.model_dump())
