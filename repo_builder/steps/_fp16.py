"""What the steps for devices of fp16 share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base.artifact import Tensor
from repo_builder.spec.types import MetricName, Part
from repo_builder.steps import _metrics, _onnx, _runtimes

if TYPE_CHECKING:
    from onnx import ModelProto

KEPT = "kept.json"
"""Written by `fp16-ranges`: names of tensors that stay in fp32."""
WAY_OUT = "write `optimize: {precision: fp32}`"


@dataclass(frozen=True)
class Params:
    """As in `reference`."""

    metric: MetricName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    samples: int | None = None
    own: _metrics.Own | None = None
    part: Part | None = None


def runner(model: ModelProto) -> _runtimes.Runner:
    """`model` in ONNX Runtime as it is written."""
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(model, Path(scratch))
        as_written = _runtimes.Options(optimize=False)
        return _runtimes.load(Path(scratch), "onnxruntime", as_written)


def tensors(model: ModelProto) -> tuple[Tensor, ...]:
    """The inputs of `model`."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return runner(copy).inputs


def kept(ranges: Path | None) -> frozenset[str]:
    """The tensors that stay in fp32 by what `fp16-ranges` wrote; none without it."""
    if ranges is None:
        return frozenset()
    return frozenset(json.loads((ranges / KEPT).read_text(encoding="utf-8")))
