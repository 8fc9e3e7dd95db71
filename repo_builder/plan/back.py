"""Models that make answers of their net's outputs: `postprocess` joined behind the net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repo_builder.base.artifact import TensorType
from repo_builder.spec.types import Spec

PREFIX = "/postprocess/"
"""What the names of all nodes behind the net, and of what they hand on, begin with."""


def outputs(spec: Spec) -> dict[str, TensorType]:
    """What the model of a spec gives besides its net's outputs."""
    asked = spec.postprocess
    if asked is None:
        return {}
    params: Any = asked.params
    if asked.kind == "top_k":
        shape = ("rows", params["k"])
        return {"class": TensorType("INT64", shape), "score": TensorType("FP32", shape)}
    if asked.kind == "mask":
        return {"mask": TensorType("UINT8", ("rows", "height", "width"))}
    if asked.kind == "ctc":
        symbols = TensorType("INT64", ("rows", "time"))
        return {"symbols": symbols, "length": TensorType("INT64", ("rows", 1))}
    most = params["max_boxes"]
    return {
        "box": TensorType("FP32", ("rows", most, 4)),
        "score": TensorType("FP32", ("rows", most)),
        "class": TensorType("INT64", ("rows", most)),
        "count": TensorType("INT64", ("rows", 1)),
    }


def given_out(spec: Spec, net: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """What callers see: the answers, and of the net's outputs those that are asked for."""
    fallback, asked = spec.fallback, spec.postprocess
    kept = {*(asked.keep if asked else net), *([fallback.output] if fallback else [])}
    return {**{name: net[name] for name in net if name in kept}, **outputs(spec)}


def excluded(spec: Spec) -> list[str]:
    """Globs of nodes that are not quantized: they choose, and compute little."""
    return [f"{PREFIX}*"] if spec.postprocess is not None else []
